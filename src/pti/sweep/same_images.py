"""Reconstructions of the same held-out images by the models of a sweep's jobs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pti.common.errors import DataError
from pti.common.progress import track
from pti.data import tif
from pti.data.input_images import InputImage
from pti.inference.devices import choose_devices
from pti.inference.held_out import images_of_split
from pti.inference.reconstructions import reconstruct_images
from pti.modules.protocols import is_autoencoder
from pti.runs.checkpoint import open_checkpoint
from pti.sweep.page import SamePatients
from pti.sweep.record import JobResult


def same_patients(results: Sequence[JobResult], count: int = 4) -> SamePatients | None:
    """Reconstruct some images with the best checkpoint of each finished job.

    Args:
        results: Jobs, at least one with a checkpoint; those without one are left out.
        count: Number of images, of different patients as far as possible.

    Returns:
        None if one of the checkpoints is not an autoencoder's.

    Raises:
        DataError: An image or a checkpoint cannot be read.
    """
    checkpoints = {job.name: open_checkpoint(job.checkpoint) for job in results if job.checkpoint}
    data = {name: checkpoint.config["data"] for name, checkpoint in checkpoints.items()}
    images, note = _held_out(data)
    images = _alternate_patients(images)[:count]
    originals = [tif.read(image.path).pixels for image in images]
    device = choose_devices(devices=1)[0]
    reconstructions = {}
    for name, checkpoint in track(checkpoints.items(), "Comparing the jobs", total=len(checkpoints)):
        module = checkpoint.load_module(device)
        if not is_autoencoder(module):
            return None
        with torch.inference_mode():
            reconstructions[name] = reconstruct_images(module, originals, data[name]["image_size"])
    return SamePatients([image.name for image in images], originals, reconstructions, note)


def _held_out(data: Mapping[str, Mapping[str, Any]]) -> tuple[list[InputImage], str]:
    """Return images that no job was trained on, or else those that the first job held out, and a note."""
    held_out = [{image.path: image for image in _untrained(config, name)} for name, config in data.items()]
    common = [image for path, image in held_out[0].items() if all(path in images for images in held_out)]
    if common:
        return common, "No job was trained on these."
    note = "The first job was not trained on these; others, with another split, may have been."
    return list(held_out[0].values()), note


def _untrained(config: Mapping[str, Any], source: str) -> list[InputImage]:
    images = []
    for split in ("val", "test"):
        try:
            images += images_of_split(config, split, source)
        except DataError:
            continue  # an empty split
    if not images:
        raise DataError(f"{config['root']}: neither val nor test holds an image to compare the jobs by.")
    return images


def _alternate_patients(images: Sequence[InputImage]) -> list[InputImage]:
    """Order images as the first one of each patient, then the second ones, and so on."""
    seen: Counter[str] = Counter()

    def round_of(image: InputImage) -> int:
        seen[image.patient] += 1
        return seen[image.patient]

    return sorted(images, key=round_of)
