"""Match folders of predicted images, by name, with a folder of true images."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pti.common.errors import DataError
from pti.data.input_images import InputImage, find_images
from pti.data.layouts import PATIENT_PATTERN, abbreviate
from pti.evaluate.scores import Case
from pti.runs.manifest import EVENLY_SPREAD, read_settings

SAMPLE = re.compile(r"^(?P<name>.+)_s(?P<index>\d+)$")
"""Names of the samples that ``translate`` writes for the image NAME: NAME_s00, NAME_s01, …."""

IMAGE_FOLDERS = ("samples", "reconstructions")
"""Subfolders for images in an output_dir of ``translate`` or ``reconstruct``."""


@dataclass(frozen=True)
class MatchedPredictions:
    """Slices with their predictions.

    Attributes:
        cases: Slices with a target and a prediction by every method, sorted by name.
        notes: Notes on what was left out; empty if everything matched.
    """

    cases: list[Case]
    notes: list[str]


def method_names(folders: Sequence[Path]) -> dict[str, Path]:
    """Name each folder by its last part, with parents where needed to distinguish them."""
    parts = [[part for part in folder.absolute().parts if part not in IMAGE_FOLDERS] for folder in folders]
    depth = 1
    while len({"/".join(part[-depth:]) for part in parts}) < len(folders) and depth < max(map(len, parts)):
        depth += 1
    return {"/".join(part[-depth:]): folder for part, folder in zip(parts, folders, strict=True)}


def match_folders(
    predictions: Mapping[str, Path],
    target_dir: Path,
    condition_dir: Path | None = None,
    patient_pattern: str = PATIENT_PATTERN,
) -> MatchedPredictions:
    """Match the images of folders by name.

    Args:
        predictions: Method -> folder with NAME.tif, or with samples NAME_s00.tif, NAME_s01.tif …, or an
            output folder of ``translate``.
        target_dir: Folder with NAME.tif.
        condition_dir: Folder with NAME.tif; None = unknown.
        patient_pattern: Regular expression for a name, with a group ``patient``.

    Raises:
        DataError: No names match, slices have unequal numbers of samples, or a condition is missing.
    """
    targets = find_images(target_dir, patient_pattern)
    return match(
        targets,
        predictions,
        {} if condition_dir is None else {image.name: image.path for image in find_images(condition_dir)},
        str(target_dir),
    )


def match(
    targets: Sequence[InputImage],
    predictions: Mapping[str, Path],
    conditions: Mapping[str, Path],
    origin: str,
) -> MatchedPredictions:
    """Match predictions with known targets.

    Args:
        targets: The true images.
        predictions: Method -> folder.
        conditions: Name -> file; empty = unknown.
        origin: Where the targets come from, for messages.

    Raises:
        DataError: As `match_folders`.
    """
    notes: list[str] = []
    known = {target.name for target in targets}
    files = {method: _samples(method, folder, known, origin, notes) for method, folder in predictions.items()}
    spread = frozenset(
        method for method, folder in predictions.items() if read_settings(folder).get(EVENLY_SPREAD)
    )
    kept = [target for target in targets if all(target.name in samples for samples in files.values())]
    if len(kept) < len(targets):
        missing = [target.name for target in targets if target not in kept]
        notes.append(f"{len(missing)} of {len(targets)} targets have no prediction: {abbreviate(missing, 3)}")
    if not kept:
        raise DataError(f"{origin}: no slice has a prediction by every method. Compare the same slices.")
    if conditions and (lacking := [target.name for target in kept if target.name not in conditions]):
        raise DataError(
            f"{abbreviate(lacking)}: no condition of this name. Complete condition_dir, or leave it out."
        )
    cases = [
        Case(
            target.name,
            target.patient or target.name,
            target.path,
            conditions.get(target.name),
            {method: samples[target.name] for method, samples in files.items()},
            evenly_spread=spread,
        )
        for target in kept
    ]
    if nameless := sum(not target.patient for target in kept):
        notes.append(
            f"{nameless} names don't contain a patient: each of these images counts as a separate patient"
        )
    return MatchedPredictions(cases, notes)


def _samples(
    method: str, folder: Path, known: set[str], origin: str, notes: list[str]
) -> dict[str, list[Path]]:
    """Return name -> files of its samples, in order."""
    folder = next((folder / name for name in IMAGE_FOLDERS if (folder / name).is_dir()), folder)
    samples: dict[str, dict[int, Path]] = {}
    unmatched = []
    for image in find_images(folder):
        sample = SAMPLE.match(image.name)
        if image.name in known:
            samples.setdefault(image.name, {})[0] = image.path
        elif sample and sample["name"] in known:
            samples.setdefault(sample["name"], {})[int(sample["index"])] = image.path
        else:
            unmatched.append(image.name)
    if not samples:
        raise DataError(
            f"{folder}: no image has the name of one in {origin}. Found {abbreviate(unmatched, 2)}; expected "
            f"{abbreviate(sorted(known), 2)}, or these names with _s00, _s01 … for samples."
        )
    if unmatched:
        notes.append(
            f"{len(unmatched)} images of {method} have no target and are left out: {abbreviate(unmatched, 3)}"
        )
    usual = Counter(map(len, samples.values())).most_common(1)[0][0]
    if odd := [name for name, files in samples.items() if len(files) != usual]:
        raise DataError(
            f"{folder}: most slices have {usual} samples, {abbreviate(sorted(odd), 5)} have another number. "
            "Let translate finish, or remove the surplus samples."
        )
    return {name: [files[index] for index in sorted(files)] for name, files in samples.items()}
