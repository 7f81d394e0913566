"""Functions that list a data set's image pairs; a layout is one function ``root -> list[Pair]``.

A layout lists what exists and opens no image: a missing partner, a name without a patient and a dangling link
each become a `Pair` that can still be reported by name. `require_inside` rejects links that leave the root,
unless ``data.allow_links`` is true.
"""

import csv
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pti.common.errors import DataError, UsageError
from pti.common.tables import read_csv

SPLITS = ("train", "val", "test")
ROLES = ("condition", "target")

TIF_SUFFIXES = (".tif", ".tiff")
PATIENT_PATTERN = r"^[^_]+_[^_]+_[^_]+_[^_]+_(?P<patient>[^_]+)$"
"""<slice>_<site>_<year>_<month>_<patient>, for example 1000_HA_2021_02_545."""


@dataclass(frozen=True)
class Pair:
    """The two images of one cross-section.

    Attributes:
        name: File name without its suffix; unique in a data set.
        patient: Patient identifier; empty where the name does not contain one.
        condition: Image with the tooth (dente); None if it is missing.
        target: Image of the same bone without the tooth (edente); None if it is missing.
        split: ``train``, ``val`` or ``test`` if the data set assigns it; None leaves the assignment to
            `pti.data.patient_split`.
    """

    name: str
    patient: str
    condition: Path | None
    target: Path | None
    split: str | None = None

    @property
    def files(self) -> dict[str, Path]:
        """Role -> file, for the images that are not missing."""
        return {role: path for role in ROLES if (path := getattr(self, role)) is not None}


@dataclass(frozen=True)
class CompletePair(Pair):
    """A pair without a missing image."""

    condition: Path
    target: Path


STAY_INSIDE = "Copy the files into the data root, or set data.allow_links=true to read what links point to."

Layout = Callable[[Path], list[Pair]]


def paired_folders(
    root: str | Path,
    patient_pattern: str = PATIENT_PATTERN,
    condition_folder: str = "dente",
    target_folder: str = "edente",
) -> list[Pair]:
    """List two folders whose files are paired by name.

    Args:
        root: Folder of the data set.
        patient_pattern: Regular expression for the name, with a group ``patient``.
        condition_folder: Folder of the images with the tooth, below the root.
        target_folder: Folder of the images without it.

    Returns:
        Pairs sorted by name.

    Raises:
        DataError: A folder is missing, or contains the same name twice.
        UsageError: ``patient_pattern`` is invalid.
    """
    conditions = _files_by_name(Path(root), condition_folder)
    return _pairs_by_name(conditions, _files_by_name(Path(root), target_folder), patient_pattern)


def single_folder(root: str | Path, patient_pattern: str = PATIENT_PATTERN, folder: str = ".") -> list[Pair]:
    """List one folder of unpaired images, each as a target, sorted by name (for the VAE alone).

    Raises:
        DataError: The folder is missing, or contains the same name twice.
        UsageError: ``patient_pattern`` is invalid.
    """
    return _pairs_by_name({}, _files_by_name(Path(root), folder), patient_pattern)


def csv_table(root: str | Path, table: str = "pairs.csv") -> list[Pair]:
    """Read a table with one pair per row and the columns condition, target, patient and, optionally, split.

    Paths are relative to the root, with slashes or backslashes; an empty cell means that the image is
    missing. A pair is named after its target's file, or its condition's without a target. Patients
    without a split are assigned to one by ``data.fractions``.

    Raises:
        DataError: The table can't be read, lacks a column, contains an unknown split, or contains an image
            twice.
    """
    path = Path(root) / table
    try:
        columns, rows = read_csv(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        fix = "Save it there as “CSV UTF-8”, or set data.layout.table."
        raise DataError(f"{path}: the table of pairs can't be read ({error}). {fix}") from None
    if missing := {"condition", "target", "patient"} - set(columns):
        lacking, present = ", ".join(sorted(missing)), ", ".join(columns) or "none"
        raise DataError(f"{path}: the columns {lacking} are missing. Its columns are: {present}.")
    pairs = [_pair_of_row(Path(root), path, line, row) for line, row in enumerate(rows, start=2)]
    counts = Counter(pair.name for pair in pairs)
    if repeated := sorted(name for name, count in counts.items() if count > 1):
        fix = "Give each pair a unique file name."
        raise DataError(f"{path}: more than one row contains {abbreviate(repeated)}. {fix}")
    return sorted(pairs, key=lambda pair: pair.name)


def tif_files(folder: str | Path, suffixes: tuple[str, ...] = TIF_SUFFIXES) -> list[Path]:
    """List the entries of a folder that end in .tif or .tiff and are not hidden, sorted by name.

    Links and folders with such a name are included, so that they can be reported.

    Args:
        folder: The folder.
        suffixes: Other endings in place of these, in lower case.

    Raises:
        DataError: The folder is missing or can't be listed.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        fix = "Set data.root to the folder that contains the images, or choose another data/layout."
        raise DataError(f"{folder}: the folder can't be listed ({error.strerror}). {fix}") from None
    return [Path(folder, name) for name in names if name[0] != "." and name.lower().endswith(suffixes)]


def leaves_root(root: str | Path, path: str | Path, allow_links: bool = False) -> bool:
    """Return whether a path lies outside the root after resolving ``..`` and, unless allowed, links."""
    resolve = os.path.abspath if allow_links else os.path.realpath
    return not Path(resolve(path)).is_relative_to(resolve(root))


def require_inside(root: str | Path, pairs: Iterable[Pair], allow_links: bool = False) -> None:
    """Reject a data set with files outside its root.

    Raises:
        DataError: Some files lie outside; the message names them.
    """
    files = (file for pair in pairs for file in pair.files.values())
    if outside := [str(file) for file in files if leaves_root(root, file, allow_links)]:
        raise DataError(f"{root}: {abbreviate(outside, 3)} lead out of the data root. {STAY_INSIDE}")


def abbreviate(names: Sequence[str], limit: int = 10) -> str:
    """Join the first ``limit`` names for a message, followed by the number of the others."""
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest


def _normal_name(path: Path) -> str:
    """File name without suffix; macOS stores é as two code points, Linux as one: both become one name."""
    return unicodedata.normalize("NFC", path.stem)


def _files_by_name(root: Path, folder: str) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in tif_files(root / folder):
        name = _normal_name(path)
        if name in files:
            raise DataError(f"{path}: {files[name].name} has the same name. Remove one of the two.")
        files[name] = path
    return files


def _pairs_by_name(conditions: dict[str, Path], targets: dict[str, Path], pattern: str) -> list[Pair]:
    key = "data.layout.patient_pattern"
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{key}: {pattern!r} is not a valid regular expression ({error}).") from None
    if "patient" not in expression.groupindex:
        raise UsageError(f"{key}: {pattern!r} lacks a group (?P<patient>...).")
    names = sorted(conditions.keys() | targets.keys())
    matches = {name: match for name in names if (match := expression.search(name))}
    patients = {name: match["patient"] or "" for name, match in matches.items()}
    return [Pair(name, patients.get(name, ""), conditions.get(name), targets.get(name)) for name in names]


def _pair_of_row(root: Path, table: Path, line: int, row: Mapping[str, str | None]) -> Pair:
    cells = {key: (row.get(key) or "").strip() for key in (*ROLES, "patient", "split")}
    paths = (cells[role].replace("\\", "/") for role in ROLES)  # from Windows
    condition, target = (root / path if path else None for path in paths)
    file = target or condition
    if file is None:
        raise DataError(f"{table}, line {line}: neither condition nor target is given.")
    if cells["split"] and cells["split"] not in SPLITS:
        fix = f"Use one of {', '.join(SPLITS)}, or leave it empty."
        raise DataError(f"{table}, line {line}: the split {cells['split']!r} is unknown. {fix}")
    return Pair(_normal_name(file), cells["patient"], condition, target, cells["split"] or None)
