"""Inputs in other formats than TIF: converted to TIF in the output folder, from which all else reads."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pti.common.errors import DataError, UsageError
from pti.common.progress import track
from pti.data import tif
from pti.data.input_images import InputImage
from pti.data.other_formats import FormatError, read_other

_MAX_NAMED_FAULTS = 20


def convert(images: Sequence[InputImage], folder: Path, pixel_mm: float | None) -> list[InputImage]:
    """Write each image as ``folder/NAME.tif`` and return it with this file as its path.

    A file that an earlier run wrote stays, so that the run can resume.

    Args:
        images: PNG, JPEG and DICOM files.
        folder: Created if it does not exist.
        pixel_mm: Edge of a pixel in mm of the files that state none; None = left open.

    Raises:
        DataError: Some images can't be used; the message names each with its fault and the fix.
        UsageError: A file of this name holds another image.
    """
    faults, converted = [], []
    for image in track(images, "Converting to TIF", total=len(images)):
        try:
            source = read_other(image.path)
        except FormatError as error:
            faults.append(str(error))
            continue
        path = folder / f"{image.name}.tif"
        edge = source.pixel_mm or pixel_mm
        if path.exists() and not _holds(path, source.pixels, edge):
            raise UsageError(
                f"{path}: holds another image than {image.path}, or another pixel size. Choose another "
                "output_dir."
            )
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            tif.write(path, source.pixels, edge)
        converted.append(replace(image, path=path))
    if faults:
        rest = [f"… and {len(faults) - _MAX_NAMED_FAULTS} more"] if len(faults) > _MAX_NAMED_FAULTS else []
        lines = "\n  ".join([*faults[:_MAX_NAMED_FAULTS], *rest])
        raise DataError(f"{len(faults)} of {len(images)} images can't be used:\n  {lines}")
    count = "1 image was" if len(images) == 1 else f"{len(images)} images were"
    stated = "pixel_mm=MM states that of" if pixel_mm is None else f"it is pixel_mm={pixel_mm:g} for"
    print(
        f"{count} converted to TIF in {folder}, with the values that they store (DICOM: "
        f"rescaled). The pixel size is DICOM's Pixel Spacing; {stated} PNG and JPEG."
    )
    return converted


def _holds(path: Path, pixels: np.ndarray, pixel_mm: float | None) -> bool:
    try:
        old = tif.read(path)
    except DataError:
        return False
    sizes = [0.0 if edge is None else edge for edge in (old.pixel_mm, pixel_mm)]
    return np.array_equal(old.pixels, pixels) and abs(sizes[0] - sizes[1]) < 1e-6
