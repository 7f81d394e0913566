"""Summarize the samples of one image: mean, standard deviation, picture, measurements."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pti.common.errors import DataError
from pti.common.randomness import sample_generator
from pti.data import tif
from pti.data.input_images import InputImage
from pti.inference.pictures import draw_translation
from pti.inference.sampling import SAMPLES, SampleTask, Sampling
from pti.metrics.translation import height_interval, mean_image, spread_image, translation_figures

MEAN, SPREAD, PICTURES = "mean", "spread", "pictures"
FOLDERS = (SAMPLES, MEAN, SPREAD, PICTURES)


@dataclass(frozen=True)
class SummarizeImage:
    """Sums up an image whose samples are all written: mean, spread, picture, figures.

    It reads the samples' files, so that it doesn't matter when and where they were made.

    Attributes:
        output_dir: the folder of the samples.
        sampling: how they were made.
        pixel_mm: edge of a pixel in mm, for files that don't say.
        data_range: of the data set, raw units.
        targets: name -> file of the target, where it is known.
        corrections: of the heights' intervals, level -> mm; None = not known.
    """

    output_dir: Path
    sampling: Sampling
    pixel_mm: float
    data_range: float
    targets: Mapping[str, Path]
    corrections: Mapping[float, float] | None = None

    def files(self, source: InputImage) -> list[Path]:
        """What is written for an image; the standard deviation only of several samples."""
        names = {MEAN: ".tif", SPREAD: ".tif", PICTURES: ".png"}
        if self.sampling.samples == 1:
            del names[SPREAD]
        return [self.output_dir / folder / f"{source.name}{end}" for folder, end in names.items()]

    def __call__(self, source: InputImage) -> dict[str, Any]:
        """Write the image's files; its figures, as `translation_figures` and `height_interval`, with names
        and seeds."""
        image = tif.read(source.path)
        items = [SampleTask(source, number) for number in range(self.sampling.samples)]
        samples = [tif.read(self.output_dir / item.file).pixels for item in items]
        target = self._target(source, image.pixels)
        pixel_mm = image.pixel_mm or self.pixel_mm
        figures = translation_figures(image.pixels, samples, pixel_mm, self.data_range, target)
        figures |= height_interval(figures, self.corrections)
        for item, of_sample in zip(items, figures["samples"], strict=True):
            generator = sample_generator(self.sampling.seed, source.name, item.sample)
            of_sample.update(sample=item.sample, seed=generator.initial_seed(), file=item.file)
        self._write(source, image, samples, target, figures)
        return {"patient": source.patient, "pixel_mm": pixel_mm, **figures}

    def _target(self, source: InputImage, condition: np.ndarray) -> np.ndarray | None:
        if source.name not in self.targets:
            return None
        path = self.targets[source.name]
        target = tif.read(path).pixels
        if target.shape != condition.shape:
            raise DataError(
                f"{path}: found {target.shape[0]} × {target.shape[1]} pixels, expected as many as in its "
                f"condition {source.path}, {condition.shape[0]} × {condition.shape[1]}. Run pti check."
            )
        return target

    def _write(
        self,
        source: InputImage,
        image: tif.TifImage,
        samples: Sequence[np.ndarray],
        target: np.ndarray | None,
        figures: Mapping[str, Any],
    ) -> None:
        mean, *spread_files, picture = self.files(source)
        for file in (mean, *spread_files, picture):
            file.parent.mkdir(parents=True, exist_ok=True)
        tif.write(mean, mean_image(samples), image.pixel_mm)
        for file in spread_files:
            tif.write(file, spread_image(samples), image.pixel_mm)
        drawn = draw_translation(source.name, image.pixels, samples, figures, self.data_range, target)
        beside = picture.with_name(f".{picture.name}.part")
        drawn.save(beside, "PNG")
        beside.replace(picture)
