"""Translate images into a folder with a trained second stage: resumable, on any number of devices."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pti.common.progress import track
from pti.common.terminal import print_notes
from pti.data.input_images import InputImage
from pti.inference.calibration_file import Calibration
from pti.inference.devices import Load, batched, run_batches
from pti.inference.gate import Gate
from pti.inference.inputs import Inputs
from pti.inference.loaded import LoadedTranslator
from pti.inference.reconstructions import fixed_data_range, training_bounds
from pti.inference.sampling import Sampling, TranslateBatch
from pti.inference.summarize import FOLDERS, SummarizeImage
from pti.inference.survey import print_warnings, survey
from pti.runs.manifest import EVENLY_SPREAD, Manifest
from pti.runs.summary import hash_config

TABLES = SAMPLE_TABLE, IMAGE_TABLE = ("manifest.csv", "images.csv")

_SUMMARY_THREADS = 4  # images summarized at a time, while the next ones are sampled


@dataclass(frozen=True)
class Translations:
    """The measurements of translated images.

    Attributes:
        rows: One mapping per image, as `SummarizeImage` returns it, with its ``name``.
        sampling: Samples, sampler, steps, guidance_scale and seed, as plain values.
        data_range: For PSNR and SSIM, raw units.
        data_range_meaning: How the data range was chosen.
        data_fingerprint: Hash of the images that were translated.
        calibration: Where the corrections of the intervals come from; None = no intervals.
        warnings: Sentences on images that are unlike those of the training.
    """

    rows: list[dict[str, Any]]
    sampling: dict[str, Any]
    data_range: float
    data_range_meaning: str
    data_fingerprint: str
    calibration: str | None = None
    warnings: Sequence[str] = ()


def translate_images(
    translator: LoadedTranslator,
    inputs: Inputs,
    output_dir: Path,
    sampling: Sampling,
    batch_size: int,
    devices: Sequence[torch.device],
    calibration: Calibration | None = None,
    gate: Gate | None = None,
) -> Translations:
    """Translate images into a folder; resume an earlier run with the same settings.

    Writes below ``output_dir``: ``samples/NAME_s00.tif`` …, ``mean/NAME.tif``, ``spread/NAME.tif`` (for two
    samples or more), ``pictures/NAME.png``.

    Args:
        translator: The model.
        inputs: The images to translate.
        output_dir: A folder for this work alone; created if missing.
        sampling: Settings; None stands for the checkpoint's own value.
        batch_size: Samples at a time on each device.
        devices: From `choose_devices`.
        calibration: Calibration of the height intervals and of the outline's band; None = neither.
        gate: Judges inputs and answers; None = they aren't judged.

    Raises:
        UsageError: The folder holds something else, or the module does not support a setting.
        DataError: Some images can't be used, or the gate refuses them; the message names all of them.
    """
    module, asked = translator.module, sampling.samples
    sampling = sampling.resolved(*translator.modules)
    if module.deterministic and sampling.samples != asked:
        count = f"samples={sampling.samples} instead of {asked} per image"
        print(f"{type(module).__name__} is deterministic: {count}.")
    settings: dict[str, Any] = {
        "command": "translate",
        "checkpoint": translator.sha256,
        "images": inputs.origin,
    }
    if any(module.spreads_samples for module in translator.modules):
        settings[EVENLY_SPREAD] = True
    with Manifest(output_dir, settings | sampling.as_dict(), (*FOLDERS, *TABLES)) as manifest:
        surveyed = survey(inputs.images)
        warnings = surveyed.warnings(training_bounds(module.normalization))
        print_warnings(warnings)
        print_notes(surveyed.pixel_size_notes(translator.pixel_mm, "the checkpoint's data.pixel_mm"))
        data_range, meaning = fixed_data_range(module.normalization, surveyed.tissue_range)
        judge = None if gate is None else gate.open(module, inputs.images, devices[0])
        translate = TranslateBatch(output_dir, translator.data["image_size"], sampling)
        summarize = SummarizeImage(
            output_dir, sampling, translator.pixel_mm, data_range, inputs.targets, calibration, judge
        )
        build = translator.builder(in_this_process=len(devices) == 1)
        translate_all(build, translate, summarize, inputs.images, manifest, batch_size, devices)
        rows = [summarize.recorded(manifest, image) for image in inputs.images]
    states = {image.name: manifest.rows[summarize.tasks(image)[0].file]["input"] for image in inputs.images}
    origin = None if calibration is None else calibration.origin
    fingerprint = hash_config(states)[:16]
    return Translations(rows, sampling.as_dict(), data_range, meaning, fingerprint, origin, warnings)


def translate_all(
    load: Load,
    translate: TranslateBatch,
    summarize: SummarizeImage,
    images: Sequence[InputImage],
    manifest: Manifest,
    batch_size: int,
    devices: Sequence[torch.device],
) -> None:
    """Write all missing samples, summarize each image, and note both in the manifest.

    Batches are cut from all samples, including finished ones, so that an interrupted run ends with the same
    bytes as an uninterrupted one.

    Args:
        load: Builds the modules on the CPU; called once per device.
        translate: Samples a batch; picklable if there are several devices.
        summarize: Summarizes an image.
        images: The images to translate.
        manifest: Manifest of the output folder.
        batch_size: Samples at a time on each device.
        devices: From `choose_devices`.
    """
    tasks = [
        replace(task, is_needed=not manifest.is_done(task.file, image.path))
        for image in images
        for task in summarize.tasks(image)
    ]
    batches = [batch for batch in batched(tasks, batch_size) if any(task.is_needed for task in batch)]
    missing = Counter(task.source for task in tasks if task.is_needed)
    if (total := missing.total()) < len(tasks):
        print(f"Resuming: {len(tasks) - total} of {len(tasks)} samples are done.")
    with _background(summarize, manifest) as summarize_later:
        for image in images:
            if not missing[image] and not summarize.is_done(manifest, image):
                summarize_later(image)
        finished = (task for batch in run_batches(load, translate, batches, devices) for task in batch)
        for task in track(finished, "Translating", total=total):
            manifest.add(task.file, task.source.path, [manifest.output_dir / task.file], {})
            missing[task.source] -= 1
            if not missing[task.source]:
                summarize_later(task.source)


@contextmanager
def _background(summarize: SummarizeImage, manifest: Manifest) -> Iterator[Callable[[InputImage], None]]:
    """Summarize images in threads while the next ones are sampled; record each one that is complete."""
    running: dict[Future[dict[str, Any]], InputImage] = {}

    def record(futures: list[Future[dict[str, Any]]]) -> None:
        for future in futures:
            image = running.pop(future)
            summarize.record(manifest, image, future.result())

    with ThreadPoolExecutor(_SUMMARY_THREADS) as threads:

        def summarize_later(image: InputImage) -> None:
            running[threads.submit(summarize, image)] = image
            record([future for future in running if future.done()])

        try:
            yield summarize_later
            record(list(running))
        finally:
            threads.shutdown(cancel_futures=True)
