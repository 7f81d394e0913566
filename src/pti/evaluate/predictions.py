"""Folders of predicted images matched, by name, with the folder of true ones."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pti.common.errors import DataError
from pti.data.input_images import InputImage, find_images
from pti.data.layouts import PATIENT_PATTERN, abbreviate
from pti.evaluate.scores import Case

SAMPLE = re.compile(r"^(?P<name>.+)_s(?P<index>\d+)$")
"""NAME_s00, NAME_s01, …: the samples that ``translate`` writes for the image NAME."""

BELOW = ("samples", "reconstructions")
"""Folders below an output_dir of ``translate`` and ``reconstruct`` that hold the images."""


@dataclass(frozen=True)
class Matched:
    """What a comparison of folders found.

    Attributes:
        cases: slices that have all they need, sorted by name.
        notes: what was left out, in words; empty when everything fitted.
    """

    cases: list[Case]
    notes: list[str]


def method_names(folders: Sequence[Path]) -> dict[str, Path]:
    """A short name for each folder: its own, with as many of its parents' names as tell them apart."""
    parts = [[part for part in folder.absolute().parts if part not in BELOW] for folder in folders]
    depth = 1
    while len({"/".join(part[-depth:]) for part in parts}) < len(folders) and depth < max(map(len, parts)):
        depth += 1
    return {"/".join(part[-depth:]): folder for part, folder in zip(parts, folders, strict=True)}


def match_folders(
    predictions: Mapping[str, Path],
    target_dir: Path,
    condition_dir: Path | None = None,
    patient_pattern: str = PATIENT_PATTERN,
) -> Matched:
    """Find what belongs together.

    Args:
        predictions: method -> folder with NAME.tif, or with samples NAME_s00.tif, NAME_s01.tif …; a folder
            that ``translate`` wrote may be given as well.
        target_dir: folder with NAME.tif.
        condition_dir: the same; None = not known.
        patient_pattern: regular expression on a name, with a group ``patient``.

    Raises:
        DataError: nothing fits together, slices have unequal numbers of samples, or a condition is missing.
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
) -> Matched:
    """The same for targets that are known already.

    Args:
        targets: the true images.
        predictions: method -> folder.
        conditions: name -> file; empty = not known.
        origin: where the targets come from, for messages.
    """
    notes: list[str] = []
    known = {target.name for target in targets}
    found = {method: _samples(method, folder, known, origin, notes) for method, folder in predictions.items()}
    kept = [target for target in targets if all(target.name in samples for samples in found.values())]
    if len(kept) < len(targets):
        missing = [target.name for target in targets if target not in kept]
        notes.append(f"{len(missing)} of {len(targets)} targets have no prediction: {abbreviate(missing, 3)}")
    if not kept:
        raise DataError(
            f"{origin}: no slice there has a prediction by every method. Compare the same slices."
        )
    if conditions and (lacking := [target.name for target in kept if target.name not in conditions]):
        raise DataError(
            f"{abbreviate(lacking)}: no condition of this name. Complete the folder, or leave it out."
        )
    cases = [
        Case(
            target.name,
            target.patient or target.name,
            target.path,
            conditions.get(target.name),
            {method: samples[target.name] for method, samples in found.items()},
        )
        for target in kept
    ]
    if nameless := sum(not target.patient for target in kept):
        notes.append(
            f"{nameless} names don't say whose they are: each of these images counts as a patient of its own"
        )
    return Matched(cases, notes)


def _samples(
    method: str, folder: Path, known: set[str], origin: str, notes: list[str]
) -> dict[str, list[Path]]:
    """Name -> files of its samples, in order."""
    folder = next((folder / name for name in BELOW if (folder / name).is_dir()), folder)
    found: dict[str, dict[int, Path]] = {}
    strangers = []
    for image in find_images(folder):
        sample = SAMPLE.match(image.name)
        if image.name in known:
            found.setdefault(image.name, {})[0] = image.path
        elif sample and sample["name"] in known:
            found.setdefault(sample["name"], {})[int(sample["index"])] = image.path
        else:
            strangers.append(image.name)
    if not found:
        raise DataError(
            f"{folder}: none of its images is called like one in {origin}. Found {abbreviate(strangers, 2)}; "
            f"expected {abbreviate(sorted(known), 2)}, or these names with _s00, _s01 … for samples."
        )
    if strangers:
        notes.append(
            f"{len(strangers)} images of {method} have no target and are left out: {abbreviate(strangers, 3)}"
        )
    counts = Counter(len(files) for files in found.values())
    usual = counts.most_common(1)[0][0]
    if odd := [name for name, files in found.items() if len(files) != usual]:
        raise DataError(
            f"{folder}: most slices have {usual} samples, {abbreviate(sorted(odd), 5)} have another number. Let "
            "translate finish, or remove what is too much."
        )
    return {name: [files[index] for index in sorted(files)] for name, files in found.items()}
