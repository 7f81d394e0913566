"""The images in a folder, with their names and patients."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from pti.common.errors import DataError
from pti.data.layouts import PATIENT_PATTERN, TIF_SUFFIXES, tif_files


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
    folder: Path,
    patient_pattern: str = PATIENT_PATTERN,
    skip: Path | None = None,
    others: tuple[str, ...] = (),
) -> list[InputImage]:
    """List all TIFs below a folder, sorted by name, except those in hidden folders or with hidden names.

    Args:
        folder: Folder to search, with its subfolders.
        patient_pattern: Regular expression for a file's name, with a group ``patient``.
        skip: Subfolder to leave out (the one for the results).
        others: Endings of files to list if there are no TIFs; next to TIFs, such files are usually pictures.

    Raises:
        DataError: There are no images, or two have the same name.
    """
    for suffixes in (TIF_SUFFIXES, others):
        if images := _list_images(folder, patient_pattern, skip, suffixes):
            return images
    expected = ".tif or .tiff" if not others else f".tif, .tiff, {', '.join(others[:-1])} or {others[-1]}"
    raise DataError(f"{folder}: contains no {expected} file. Set input_dir to the images' folder.")


def _list_images(
    folder: Path, patient_pattern: str, skip: Path | None, suffixes: tuple[str, ...]
) -> list[InputImage]:
    skipped = os.path.realpath(skip) if skip else None
    images: dict[str, InputImage] = {}
    for here, subfolders, _ in os.walk(folder):
        visible = [name for name in subfolders if not name.startswith(".")]
        subfolders[:] = [name for name in visible if os.path.realpath(Path(here, name)) != skipped]
        for path in tif_files(here, suffixes):
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in images:
                raise DataError(f"{path}: {images[name].path.name} has the same name. Remove one of the two.")
            match = re.search(patient_pattern, path.stem)
            images[name] = InputImage(name, path, match["patient"] if match else "")
    return [images[name] for name in sorted(images)]
