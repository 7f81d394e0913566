"""Translate images into a folder with a trained second stage: resumable, on any number of devices."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pti.common.errors import UsageError
from pti.common.progress import track
from pti.data.input_images import InputImage, survey
from pti.inference.calibration_file import HeightCalibration
from pti.inference.devices import Load, run_batches
from pti.inference.inputs import Inputs
from pti.inference.reconstructions import fixed_data_range
from pti.inference.sampling import SampleTask, Sampling, Translate
from pti.inference.summarize import FOLDERS, SummarizeImage
from pti.inference.tables import TABLES, Translations
from pti.metrics.calibration import INTERVAL
from pti.metrics.translation import height_interval
from pti.runs import checkpoint
from pti.runs.manifest import Manifest
from pti.runs.summary import hash_config, hash_file

_SUMMARY_THREADS = 4  # images summarized at a time, while the next ones are sampled


@dataclass(frozen=True)
class LoadedTranslator:
    """A checkpoint of the second stage, loaded.

    Attributes:
        path: the checkpoint file.
        module: the trained module, in evaluation mode, on the CPU.
        data: the ``data`` section of the training's configuration.
    """

    path: Path
    module: Any
    data: dict[str, Any]

    @property
    def pixel_mm(self) -> float:
        """Edge of a pixel in mm, for files without a resolution."""
        return self.data["pixel_mm"]


def open_translator(path: Path) -> LoadedTranslator:
    """Load a checkpoint that translates.

    Raises:
        CheckpointError: the file can't be used.
        UsageError: the checkpoint isn't one of a second stage.
    """
    module = checkpoint.load(path)
    if not hasattr(module, "translate"):
        raise UsageError(
            f"ckpt={path}: found a checkpoint of {type(module).__name__}, expected one of a second stage, "
            "such as best:ldm_demo or best:regression."
        )
    return LoadedTranslator(path, module, checkpoint.read(path)["config"]["data"])


def translate_images(
    translator: LoadedTranslator,
    inputs: Inputs,
    output_dir: Path,
    sampling: Sampling,
    *,
    batch_size: int,
    devices: Sequence[torch.device],
    calibration: HeightCalibration | None = None,
) -> Translations:
    """Translate images into a folder; resume an earlier run with the same settings.

    Writes below ``output_dir``: ``samples/NAME_s00.tif`` …, ``mean/NAME.tif``, ``spread/NAME.tif`` (for two
    samples or more), ``pictures/NAME.png``.

    Args:
        translator: the model.
        inputs: the images to translate.
        output_dir: a folder for this work alone; created if missing.
        sampling: how to sample; settings that are None are the checkpoint's own.
        batch_size: samples at a time on each device.
        devices: from `choose_devices`.
        calibration: of the heights' intervals; None = no intervals.

    Raises:
        UsageError: the folder holds something else, or the module can't be sampled like this.
        DataError: some images can't be used; the message names all of them.
    """
    module = translator.module
    if module.deterministic and sampling.samples > 1:
        print(f"{type(module).__name__} has one answer to each image: samples=1, not {sampling.samples}.")
    sampling = sampling.resolved(module)
    settings = {"command": "translate", "checkpoint": hash_file(translator.path), "images": inputs.origin}
    with Manifest(output_dir, settings | sampling.as_dict(), (*FOLDERS, *TABLES)) as manifest:
        data_range, meaning = fixed_data_range(module.normalization, survey(inputs.images).tissue)
        translate = Translate(output_dir, translator.data["image_size"], sampling)
        corrections = None if calibration is None else calibration.corrections
        finish = SummarizeImage(
            output_dir, sampling, translator.pixel_mm, data_range, inputs.targets, corrections
        )
        load = (lambda: module) if len(devices) == 1 else partial(checkpoint.load, translator.path)
        translate_all(load, translate, finish, inputs.images, manifest, batch_size, devices)
        rows = [figures_of(manifest, finish, image) for image in inputs.images]
    states = {image.name: manifest.rows[SampleTask(image, 0).file]["input"] for image in inputs.images}
    origin = None if calibration is None else calibration.origin
    return Translations(rows, sampling.as_dict(), data_range, meaning, hash_config(states)[:16], origin)


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

    with ThreadPoolExecutor(_SUMMARY_THREADS) as threads:

        def sum_up(source: InputImage) -> None:
            running.append((source, threads.submit(finish, source)))
            note(Future.done)

        try:
            yield sum_up
            note(lambda _: True)
        finally:
            threads.shutdown(cancel_futures=True)
