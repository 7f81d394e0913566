"""Summarize the samples of one image: mean, standard deviation, picture and measurements."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pti.common.errors import DataError
from pti.data import tif
from pti.data.input_images import InputImage
from pti.inference.calibration_file import Calibration
from pti.inference.gate import Judge
from pti.inference.pictures import draw_translation, save_picture
from pti.inference.sampling import SAMPLES, SampleTask, Sampling
from pti.inference.trust import TRUST
from pti.metrics.calibration import INTERVAL
from pti.metrics.outline_band import BAND, band_settings, image_band
from pti.metrics.translation import height_interval, mean_image, spread_image, translation_metrics
from pti.runs.manifest import Manifest

MEAN, SPREAD, PICTURES = "mean", "spread", "pictures"
FOLDERS = (SAMPLES, MEAN, SPREAD, PICTURES)


@dataclass(frozen=True)
class SummarizeImage:
    """Summarize an image once all its samples are written.

    It reads the samples from their files, so that it doesn't matter when and where they were computed.

    Attributes:
        output_dir: The folder with the samples.
        sampling: Settings of the samples.
        pixel_mm: Edge of a pixel in mm, for files without a resolution.
        data_range: Data range of the set, raw units.
        targets: Name -> file of the target, where it is known.
        calibration: Calibration of the height intervals and of the outline's band; None = neither.
        judge: Judges input and answer; None = they aren't judged.
    """

    output_dir: Path
    sampling: Sampling
    pixel_mm: float
    data_range: float
    targets: Mapping[str, Path]
    calibration: Calibration | None = None
    judge: Judge | None = None

    def files(self, source: InputImage) -> list[Path]:
        """List the files of an image; a single sample has no standard deviation."""
        names = {MEAN: ".tif", SPREAD: ".tif", PICTURES: ".png"}
        if self.sampling.samples == 1:
            del names[SPREAD]
        return [self.output_dir / folder / f"{source.name}{suffix}" for folder, suffix in names.items()]

    def tasks(self, source: InputImage) -> list[SampleTask]:
        """List the samples of an image."""
        return [SampleTask(source, number) for number in range(self.sampling.samples)]

    def __call__(self, source: InputImage) -> dict[str, Any]:
        """Write the files of an image and measure it.

        Returns:
            The values of `translation_metrics`, `height_interval` and `ImageBand`, the verdict of ``judge``,
            the patient, the resolution, and the number, seed and file of each sample.
        """
        image = tif.read(source.path)
        tasks = self.tasks(source)
        samples = [tif.read(self.output_dir / task.file).pixels for task in tasks]
        target = self._read_target(source, image.pixels)
        pixel_mm = image.pixel_mm or self.pixel_mm
        metrics = translation_metrics(image.pixels, samples, pixel_mm, self.data_range, target)
        metrics |= self._height_interval(metrics)
        band = image_band(image.pixels, samples, pixel_mm, self._band_factors)
        metrics |= {} if band is None else band.as_metrics()
        if self.judge is not None:
            metrics |= self.judge(source.name, image.pixels, samples, metrics["bone_height_mm"] > 0)
        for task, row in zip(tasks, metrics["samples"], strict=True):
            generator = self.sampling.generator(source, task.sample)
            row.update(sample=task.sample, seed=generator.initial_seed(), file=task.file)
        mean, *spread, picture = self.files(source)
        for file in (mean, *spread):
            file.parent.mkdir(parents=True, exist_ok=True)
        tif.write(mean, mean_image(samples), image.pixel_mm)
        for file in spread:
            tif.write(file, spread_image(samples), image.pixel_mm)
        drawn = draw_translation(source.name, image.pixels, samples, metrics, self.data_range, target, band)
        save_picture(drawn, picture)
        return {"patient": source.patient, "pixel_mm": pixel_mm, **metrics}

    def record(self, manifest: Manifest, source: InputImage, metrics: Mapping[str, Any]) -> None:
        """Note in the manifest that an image is summarized."""
        manifest.add(self._row_name(source), source.path, self.files(source), metrics)

    def recorded(self, manifest: Manifest, source: InputImage) -> dict[str, Any]:
        """Return the name and the measurements of an image that is summarized."""
        return {"name": source.name, **manifest.rows[self._row_name(source)]["figures"]}

    def is_done(self, manifest: Manifest, source: InputImage) -> bool:
        """Test whether an earlier run summarized and judged the image with the same calibration."""
        if not manifest.is_done(self._row_name(source), source.path):
            return False
        metrics = self.recorded(manifest, source)
        if self.judge is not None and TRUST not in metrics:
            return False
        calibrated = {key: metrics[key] for key in (*INTERVAL, *BAND[:2]) if key in metrics}
        return calibrated == self._height_interval(metrics) | band_settings(self._band_factors)

    def _height_interval(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        if self.calibration is None:
            return {}
        return height_interval(metrics, self.calibration.height, self.calibration.evenly_spread)

    @property
    def _band_factors(self) -> Mapping[float, float]:
        return {} if self.calibration is None else self.calibration.band_factors

    def _row_name(self, source: InputImage) -> str:
        """Name the manifest's row after the first file, because an image may be called like a sample."""
        return self.files(source)[0].relative_to(self.output_dir).as_posix()

    def _read_target(self, source: InputImage, condition: np.ndarray) -> np.ndarray | None:
        path = self.targets.get(source.name)
        if path is None:
            return None
        target = tif.read(path).pixels
        if target.shape != condition.shape:
            height, width = target.shape
            raise DataError(
                f"{path}: found {height} × {width} pixels, expected the size of its condition {source.path}, "
                f"{condition.shape[0]} × {condition.shape[1]}. Run pti check."
            )
        return target
