"""The images that a command processes, all read once beforehand, so that one message names every fault."""

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

_MAX_NAMED_FAULTS = 20
_READERS = 8


@dataclass(frozen=True)
class InputImage:
    """One image to process.

    Attributes:
        name: Name of its results: its path below the folder, without the suffix
            (``dente/1000_HA_2021_02_545``).
        path: The file.
        patient: Patient identifier; empty where the name does not contain one.
    """

    name: str
    path: Path
    patient: str


def find_images(
    folder: Path, patient_pattern: str = PATIENT_PATTERN, skip: Path | None = None
) -> list[InputImage]:
    """List all TIFs below a folder, sorted by name, except those in hidden folders or with hidden names.

    Args:
        folder: Folder to search, with its subfolders.
        patient_pattern: Regular expression for a file's name, with a group ``patient``.
        skip: Subfolder to leave out (the one for the results).

    Raises:
        DataError: There are no images, or two have the same name.
    """
    skipped = os.path.realpath(skip) if skip else None
    images: dict[str, InputImage] = {}
    for here, subfolders, _ in os.walk(folder):
        visible = [name for name in subfolders if not name.startswith(".")]
        subfolders[:] = [name for name in visible if os.path.realpath(Path(here, name)) != skipped]
        for path in tif_files(here):
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in images:
                raise DataError(f"{path}: {images[name].path.name} has the same name. Remove one of the two.")
            match = re.search(patient_pattern, path.stem)
            images[name] = InputImage(name, path, match["patient"] if match else "")
    if not images:
        raise DataError(f"{folder}: contains no .tif or .tiff file. Set input_dir to the images' folder.")
    return [images[name] for name in sorted(images)]


def tissue_range(images: Sequence[InputImage]) -> tuple[float, float]:
    """Read every image once and measure the range of the tissue.

    Returns:
        (low, high) in raw units: the smallest 0.5th and the largest 99.5th percentile of any image's tissue;
        (0, 1) without tissue.

    Raises:
        DataError: Some images can't be used; the message names each with its fault and the fix.
    """
    with ThreadPoolExecutor(_READERS) as readers:
        results = list(track(readers.map(_percentiles, images), "Reading", total=len(images)))
    if faults := [str(result) for result in results if isinstance(result, DataError)]:
        rest = len(faults) - _MAX_NAMED_FAULTS
        lines = faults[:_MAX_NAMED_FAULTS] + ([f"… and {rest} more"] if rest > 0 else [])
        raise DataError(f"{len(faults)} of {len(images)} images can't be used:\n  " + "\n  ".join(lines))
    lows, highs = zip(
        *[result for result in results if isinstance(result, list)] or [(0.0, 1.0)], strict=True
    )
    return min(lows), max(highs)


def _percentiles(image: InputImage) -> list[float] | DataError | None:
    try:
        pixels = tif.read(image.path).pixels
    except DataError as error:
        return error
    tissue = pixels[pixels != 0]
    return np.percentile(tissue, (0.5, 99.5)).tolist() if tissue.size else None
