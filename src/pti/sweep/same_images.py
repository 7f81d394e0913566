"""The same held-out images through the models of a sweep's jobs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pti.common.errors import DataError
from pti.common.progress import track
from pti.data import tif
from pti.data.input_images import InputImage
from pti.inference.devices import choose_devices
from pti.inference.held_out import images_of_split
from pti.inference.reconstructions import reconstruct_images
from pti.runs.checkpoint import load, read
from pti.sweep.page import SamePatients
from pti.sweep.record import FINISHED, JobResult


def same_patients(results: Sequence[JobResult], count: int = 4) -> SamePatients | None:
    """Reconstruct some images with each finished job's best checkpoint.

    Args:
        results: the jobs; those without a checkpoint that reconstructs are left out.
        count: number of images, of different patients where there are as many.

    Raises:
        DataError: an image or a checkpoint can't be read.
    """
    paths = {result.name: path for result in results if (path := _checkpoint(result)) is not None}
    if not paths:
        return None
    data = {name: read(path)["config"]["data"] for name, path in paths.items()}
    images, note = _held_out(data)
    images = _different_patients(images)[:count]
    originals = [tif.read(image.path).pixels for image in images]
    device = choose_devices(devices=1)[0]
    found = {}
    for name, path in track(paths.items(), "Comparing the jobs", total=len(paths)):
        module = load(path).to(device)
        if not (hasattr(module, "reconstruct") and hasattr(module, "normalization")):
            return None
        with torch.inference_mode():
            found[name] = reconstruct_images(module, originals, data[name]["image_size"])
    return SamePatients([image.name for image in images], originals, found, note)


def _checkpoint(result: JobResult) -> Path | None:
    folder = result.folder / "checkpoints"
    paths = [folder / name for name in ("best.ckpt", "last.ckpt")] if result.status == FINISHED else []
    return next((path for path in paths if path.is_file()), None)


def _held_out(data: Mapping[str, Mapping[str, Any]]) -> tuple[list[InputImage], str]:
    """Images on which no job was trained; where there are none, what the first job held out."""
    sides = [{image.path: image for image in _untrained(config, name)} for name, config in data.items()]
    common = [image for path, image in sides[0].items() if all(path in side for side in sides)]
    if common:
        return common, "No job was trained on these."
    return list(
        sides[0].values()
    ), "The first job was not trained on these; others, with another split, may have been."


def _untrained(config: Mapping[str, Any], source: str) -> list[InputImage]:
    found = []
    for side in ("val", "test"):
        try:
            found += images_of_split(config, side, source)
        except DataError:
            continue  # an empty side
    if not found:
        raise DataError(
            f"{config['root']}: neither its val nor its test side holds an image to compare the jobs by."
        )
    return found


def _different_patients(images: Sequence[InputImage]) -> list[InputImage]:
    """The first image of each patient, then their second ones, and so on."""
    seen: dict[str, int] = {}
    turns = []
    for image in images:
        turns.append(seen.get(image.patient, 0))
        seen[image.patient] = turns[-1] + 1
    return [image for _, image in sorted(zip(turns, images, strict=True), key=lambda pair: pair[0])]
