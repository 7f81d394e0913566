"""The images to measure, and the measurements of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pti.common.errors import DataError
from pti.common.processes import map_in_processes
from pti.data.input_images import find_images
from pti.data.layouts import ROLES, Layout, require_inside
from pti.data.tif import TifError
from pti.inference.bone_sizes import read_bone

NO_BONE = "no bone: no pixel is above 0"


@dataclass(frozen=True)
class MeasuredImage:
    """One image to measure.

    Attributes:
        name: Name of the image: its path below the folder without suffix, or the name of its pair.
        path: The file.
        patient: Patient identifier; empty where the name does not contain one.
        role: ``condition`` or ``target``; empty for an image of a folder.
    """

    name: str
    path: Path
    patient: str
    role: str = ""


def images_of_folder(folder: Path, patient_pattern: str, skip: Path) -> list[MeasuredImage]:
    """List the images below a folder; arguments and errors as `pti.data.input_images.find_images`."""
    found = find_images(folder, patient_pattern, skip)
    return [MeasuredImage(image.name, image.path, image.patient) for image in found]


def images_of_data_set(root: Path, layout: Layout, allow_links: bool) -> list[MeasuredImage]:
    """List both images of each pair of a data set; a pair may lack one.

    Raises:
        DataError: There are no images, or one lies outside ``root`` without ``allow_links``.
    """
    pairs = layout(root)
    require_inside(root, pairs, allow_links)
    images = [
        MeasuredImage(pair.name, pair.files[role], pair.patient, role)
        for pair in pairs
        for role in ROLES
        if role in pair.files
    ]
    if not images:
        raise DataError(
            f"{root}: no images found (.tif, .tiff). Set data.root to the data set, or choose the "
            "data/layout that describes it; input_dir measures any folder."
        )
    return images


def measure_images(
    images: Sequence[MeasuredImage], pixel_mm: float, workers: int | None = None
) -> list[dict[str, Any]]:
    """Measure the bone in each image; see `measure_image` for the rows.

    Args:
        images: The images.
        pixel_mm: Edge of a pixel in mm, for files without a resolution.
        workers: Number of processes; None uses all cores, 1 works in this process.
    """
    work = partial(measure_image, pixel_mm=pixel_mm)
    return list(map_in_processes(work, images, "Measuring", workers, fix="run it again with workers=1"))


def measure_image(image: MeasuredImage, pixel_mm: float) -> dict[str, Any]:
    """Measure the bone in one image.

    Returns:
        ``name``, ``role`` (in a pair) and ``patient``; the columns of
        `pti.metrics.morphometry.Morphometry.as_dict`, all NaN but the pixel size without bone, none of them
        for a file that can't be used; ``pixel_mm_from`` (``file`` or ``setting``); ``note`` on an image that
        isn't measured; ``file``.
    """
    row: dict[str, Any] = {"name": image.name} | ({"role": image.role} if image.role else {})
    row["patient"] = image.patient
    try:
        bone, stated = read_bone(image.path, pixel_mm)
    except TifError as error:
        return {**row, "note": str(error), "file": str(image.path)}
    row |= {**bone.size.as_dict(), "pixel_mm_from": "file" if stated else "setting"}
    return row | {"note": "" if bone.mask.any() else NO_BONE, "file": str(image.path)}
