"""How a folder becomes a list of pairs. A layout is one function `root -> list[Pair]`.

A layout describes what is there and opens no image: a missing partner, a name without a patient, a
dangling link all make a `Pair` that can still be reported by name. `require_inside` is the gate against
links that leave the root.
"""

import csv
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pti.common.errors import DataError, UsageError

SPLITS = ("train", "val", "test")
SUFFIXES = (".tif", ".tiff")

PATIENT_PATTERN = r"^[^_]+_[^_]+_[^_]+_[^_]+_(?P<patient>[^_]+)$"
"""<slice>_<site>_<year>_<month>_<patient>, for example 1000_HA_2021_02_545."""


@dataclass(frozen=True)
class Pair:
    """One cross-section.

    Attributes:
        name: file name without its ending; unique in a data set.
        patient: who it belongs to; empty where the name doesn't say.
        condition: the image with tooth (dente); None where there is none.
        target: the image without (edente); None where there is none.
        split: ``train``, ``val`` or ``test`` where the data set says it; None leaves it to `pti.data.patient_split`.
    """

    name: str
    patient: str
    condition: Path | None
    target: Path | None
    split: str | None = None


Layout = Callable[[Path], list[Pair]]


def paired_folders(
    root: str | Path,
    patient_pattern: str = PATIENT_PATTERN,
    condition_folder: str = "dente",
    target_folder: str = "edente",
) -> list[Pair]:
    """Two folders whose files belong together by name, sorted by name.

    Args:
        root: the data set.
        patient_pattern: regular expression on the name, with a group ``patient``.
        condition_folder: folder of the images with tooth.
        target_folder: folder of the images without.

    Raises:
        DataError: a folder is missing, or a folder holds one name twice.
    """
    conditions = _by_name(Path(root), condition_folder)
    targets = _by_name(Path(root), target_folder)
    patient_of = _patient_rule(patient_pattern)
    return [
        Pair(name, patient_of(name), conditions.get(name), targets.get(name))
        for name in sorted(conditions.keys() | targets.keys())
    ]


def single_folder(root: str | Path, patient_pattern: str = PATIENT_PATTERN, folder: str = ".") -> list[Pair]:
    """One folder of images without partners (for the VAE alone): each is a target, sorted by name.

    Raises:
        DataError: the folder is missing, or it holds one name twice.
    """
    patient_of = _patient_rule(patient_pattern)
    files = _by_name(Path(root), folder)
    return [Pair(name, patient_of(name), None, files[name]) for name in sorted(files)]


def csv_table(root: str | Path, table: str = "pairs.csv") -> list[Pair]:
    """A table with the columns condition, target, patient and, if wanted, split; one row a pair.

    Paths are relative to the root; an empty cell means that there is none. The name is the target's file name
    without its ending, or else the condition's. An empty split leaves that patient to the fractions.

    Raises:
        DataError: the table is missing, lacks a column, names a split that doesn't exist or an image twice.
    """
    path = Path(root) / table
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), set(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        fix = "Write it, or set data.layout.table."
        raise DataError(f"{path}: the table of pairs can't be read ({error}). {fix}") from None
    if missing := {"condition", "target", "patient"} - columns:
        found = ", ".join(sorted(columns)) or "nothing"
        raise DataError(f"{path}: the columns {', '.join(sorted(missing))} are missing; it has {found}.")
    pairs = [_row(Path(root), path, line, row) for line, row in enumerate(rows, start=2)]
    counts = Counter(pair.name for pair in pairs)
    if twice := sorted(name for name, count in counts.items() if count > 1):
        fix = "Give each pair a file name of its own."
        raise DataError(f"{path}: {abbreviate(twice)} stand in more than one row. {fix}")
    return sorted(pairs, key=lambda pair: pair.name)


def tif_files(folder: str | Path) -> list[Path]:
    """The entries of a folder that end in .tif or .tiff and are not hidden, sorted; links and folders too.

    Raises:
        DataError: the folder is not there or can't be listed.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except OSError as error:
        found = f"{error.strerror}"
        fix = "Set data.root to the folder that holds the images, or data.layout to what it looks like."
        raise DataError(f"{folder}: the folder can't be listed ({found}). {fix}") from None
    return [Path(folder, name) for name in sorted(names) if not name.startswith(".") and _is_tif(name)]


def leaves_root(root: str | Path, path: str | Path) -> bool:
    """Whether a path, with its links and ``..`` followed, lies outside the root."""
    inside, real = os.path.realpath(root), os.path.realpath(path)
    return real != inside and not real.startswith(inside.rstrip(os.sep) + os.sep)


def require_inside(root: str | Path, pairs: Iterable[Pair]) -> None:
    """Refuse a data set with files that lie outside its root.

    Raises:
        DataError: naming them.
    """
    files = (file for pair in pairs for file in (pair.condition, pair.target) if file is not None)
    if outside := [str(file) for file in files if leaves_root(root, file)]:
        fix = "Copy the files into the root, or set data.root to the folder that holds them."
        raise DataError(f"{root}: {abbreviate(outside)} lead out of the data root. {fix}")


def _by_name(root: Path, folder: str) -> dict[str, Path]:
    """Name -> file. macOS spells é in file names in two characters, Linux in one: both mean one name."""
    files: dict[str, Path] = {}
    for path in tif_files(root / folder):
        name = unicodedata.normalize("NFC", path.stem)
        if name in files:
            raise DataError(f"{path}: {files[name].name} has the same name. Remove one of the two.")
        files[name] = path
    return files


def _row(root: Path, table: Path, line: int, row: dict[str, str | None]) -> Pair:
    cells = {key: (row.get(key) or "").strip() for key in ("condition", "target", "patient", "split")}
    condition, target = (root / cells[key] if cells[key] else None for key in ("condition", "target"))
    file = target or condition
    if file is None:
        raise DataError(f"{table}, line {line}: neither condition nor target is given.")
    if cells["split"] and cells["split"] not in SPLITS:
        fix = f"Use one of {', '.join(SPLITS)}, or leave it empty."
        raise DataError(f"{table}, line {line}: the split {cells['split']!r} is unknown. {fix}")
    name = unicodedata.normalize("NFC", file.stem)
    return Pair(name, cells["patient"], condition, target, cells["split"] or None)


def _patient_rule(pattern: str) -> Callable[[str], str]:
    try:
        rule = re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"data.layout.patient_pattern: {pattern!r} is no regular expression ({error})."
        ) from None
    if "patient" not in rule.groupindex:
        raise UsageError(f"data.layout.patient_pattern: {pattern!r} lacks a group (?P<patient>...).")
    return lambda name: match["patient"] or "" if (match := rule.search(name)) else ""


def _is_tif(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def abbreviate(names: Sequence[str], limit: int = 10) -> str:
    """The first names and how many more there are, for messages."""
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
