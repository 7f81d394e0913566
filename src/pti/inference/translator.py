"""Many images through a trained second stage: samples, and what they say together about each image."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pti.common.errors import DataError
from pti.common.progress import track
from pti.common.randomness import sample_generator
from pti.data import tif
from pti.data.input_images import InputImage
from pti.inference.devices import Load, run_batches
from pti.inference.pictures import draw_translation
from pti.inference.sampling import SAMPLES, SampleTask, Sampling, Translate
from pti.metrics.calibration import INTERVAL
from pti.metrics.translation import (
    height_interval,
    mean_image,
    spread_image,
    translation_figures,
)
from pti.runs.manifest import Manifest

MEAN, SPREAD, PICTURES = "mean", "spread", "pictures"
FOLDERS = (SAMPLES, MEAN, SPREAD, PICTURES)

_SUMMING_UP = 4  # images at a time, while the next are sampled


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


def translate_all(
    load: Load,
    translate: Translate,
    finish: SummarizeImage,
    images: Sequence[InputImage],
    manifest: Manifest,
    batch_size: int,
    devices: Sequence[torch.device],
) -> None:
    """Make all samples that aren't there yet, sum up each image, and note both in the manifest.

    Batches are cut from all samples, also those that are there: so a run that was interrupted ends with the
    bytes of one that wasn't.

    Args:
        load: builds the module, on the CPU, once for each device.
        translate: makes a batch; picklable with several devices.
        finish: sums up an image.
        images: what to translate.
        manifest: of the output folder.
        batch_size: samples at a time on each device.
        devices: from `choose_devices`.
    """
    items = [
        SampleTask(source, number, not manifest.is_done(SampleTask(source, number).file, source.path))
        for source in images
        for number in range(translate.sampling.samples)
    ]
    batches = [items[start : start + batch_size] for start in range(0, len(items), batch_size)]
    batches = [batch for batch in batches if any(item.is_needed for item in batch)]
    missing = dict.fromkeys(images, 0)
    for item in items:
        missing[item.source] += item.is_needed
    if (total := sum(missing.values())) < len(items):
        print(f"{len(items) - total} of {len(items)} samples were made earlier: going on.")
    ready = [
        source for source in images if not missing[source] and not _is_summed_up(manifest, finish, source)
    ]
    with _background(finish, manifest) as sum_up:
        for source in ready:
            sum_up(source)
        results = (item for batch in run_batches(load, translate, batches, devices) for item in batch)
        for item in track(results, "Translating", total=total):
            manifest.add(item.file, item.source.path, [manifest.output_dir / item.file], {})
            missing[item.source] -= 1
            if not missing[item.source]:
                sum_up(item.source)


def figures_of(manifest: Manifest, finish: SummarizeImage, source: InputImage) -> dict[str, Any]:
    """What `translate_all` found of an image."""
    return {"name": source.name, **manifest.rows[_row_name(manifest, finish, source)]["figures"]}


def _row_name(manifest: Manifest, finish: SummarizeImage, source: InputImage) -> str:
    """Rows are named after the first file that they are about: an image may be called like a sample."""
    return finish.files(source)[0].relative_to(manifest.output_dir).as_posix()


def _is_summed_up(manifest: Manifest, finish: SummarizeImage, source: InputImage) -> bool:
    """Whether an earlier start did it, with the same calibration: another one doesn't touch the samples."""
    if not manifest.is_done(_row_name(manifest, finish, source), source.path):
        return False
    figures = figures_of(manifest, finish, source)
    known = {key: figures[key] for key in INTERVAL if key in figures}
    return known == height_interval(figures, finish.corrections)


@contextmanager
def _background(finish: SummarizeImage, manifest: Manifest) -> Iterator[Callable[[InputImage], None]]:
    """Sum up images while the next ones are sampled; all are noted at the end, or as far as they got."""
    running: list[tuple[InputImage, Future[dict[str, Any]]]] = []

    def note(which: Callable[[Future[Any]], bool]) -> None:
        for entry in [entry for entry in running if which(entry[1])]:
            running.remove(entry)
            source, figures = entry[0], entry[1].result()
            manifest.add(_row_name(manifest, finish, source), source.path, finish.files(source), figures)

    with ThreadPoolExecutor(_SUMMING_UP) as threads:

        def sum_up(source: InputImage) -> None:
            running.append((source, threads.submit(finish, source)))
            note(Future.done)

        try:
            yield sum_up
            note(lambda _: True)
        finally:
            threads.shutdown(cancel_futures=True)
