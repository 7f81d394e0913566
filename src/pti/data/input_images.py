"""The images that a command is to work on, read once beforehand, so that all faults are named."""

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pti.common.errors import DataError
from pti.common.progress import track
from pti.data import tif
from pti.data.layouts import PATIENT_PATTERN, tif_files

_MOST_NAMED = 20
_READERS = 8


@dataclass(frozen=True)
class InputImage:
    """One image to work on.

    Attributes:
        name: what its results are called: its path below the folder without the ending,
            ``dente/1000_HA_2021_02_545``.
        path: the file.
        patient: empty where the name doesn't say.
    """

    name: str
    path: Path
    patient: str


@dataclass(frozen=True)
class Survey:
    """What a first look at the images found.

    Attributes:
        pixel_mm: name -> edge of a pixel in mm, None where the file doesn't say.
        tissue: (low, high), raw units: the 0.5th percentile of the darkest, the 99.5th of the brightest
            image's tissue.
    """

    pixel_mm: dict[str, float | None]
    tissue: tuple[float, float]


def find_images(
    folder: Path, patient_pattern: str = PATIENT_PATTERN, skip: Path | None = None
) -> list[InputImage]:
    """All TIFs below a folder, subfolders included, sorted by name; hidden files and folders are left out.

    Args:
        folder: where they are.
        patient_pattern: regular expression on a file's name, with a group ``patient``.
        skip: a folder below it that is left out (where the results go).

    Raises:
        DataError: there are none, or two would have one name.
    """
    found: dict[str, InputImage] = {}
    for here, inner, _ in os.walk(folder):
        inner[:] = sorted(
            name for name in inner if not name.startswith(".") and not _same(Path(here, name), skip)
        )
        for path in tif_files(here):
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in found:
                raise DataError(f"{path}: {found[name].path.name} has the same name. Remove one of the two.")
            match = re.search(patient_pattern, path.stem)
            found[name] = InputImage(name, path, match["patient"] if match else "")
    if not found:
        raise DataError(
            f"{folder}: found no .tif or .tiff file there, expected images. Set input_dir to their folder."
        )
    return [found[name] for name in sorted(found)]


def survey(images: Sequence[InputImage]) -> Survey:
    """Read every image once.

    Raises:
        DataError: naming all that can't be used, each with its fault and the fix.
    """
    faults: list[str] = []
    pixel_mm: dict[str, float | None] = {}
    lows, highs = [], []
    with ThreadPoolExecutor(_READERS) as readers:
        looks = track(readers.map(_look, images), "Reading", total=len(images))
        for image, look in zip(images, looks, strict=True):
            if isinstance(look, DataError):
                faults.append(str(look))
                continue
            pixel_mm[image.name] = look[0]
            if look[1] is not None:
                lows.append(look[1][0])
                highs.append(look[1][1])
    if faults:
        rest = f"\n  … and {len(faults) - _MOST_NAMED} more" if len(faults) > _MOST_NAMED else ""
        listed = "\n  ".join(faults[:_MOST_NAMED])
        raise DataError(f"{len(faults)} of {len(images)} images can't be used:\n  {listed}{rest}")
    return Survey(pixel_mm, (min(lows, default=0.0), max(highs, default=1.0)))


def _look(image: InputImage) -> "tuple[float | None, tuple[float, float] | None] | DataError":
    try:
        found = tif.read(image.path)
    except DataError as error:
        return error
    tissue = found.pixels[found.pixels != 0]
    window = np.percentile(tissue, (0.5, 99.5)) if tissue.size else None
    return found.pixel_mm, None if window is None else (float(window[0]), float(window[1]))


def _same(path: Path, other: Path | None) -> bool:
    return other is not None and os.path.realpath(path) == os.path.realpath(other)
