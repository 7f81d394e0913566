"""What can be told of a data set without decoding an image: files, names, partners, patients, sizes."""

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pti.check.image_facts import file_finding
from pti.common.errors import DataError
from pti.data.checks.findings import WHOLE_SET, Finding, once_for_all, shown
from pti.data.checks.headers import check_sizes
from pti.data.layouts import SPLITS, Layout, Pair, leaves_root, paired_folders
from pti.data.patient_split import splits_of
from pti.data.tif import TifError, TifHeader, inspect

_NO_SPLIT = ("layout", "no_images", "no_patient", "outside")  # with these the split would be another one
READERS = 8  # threads: reading headers waits for the disk or the network


@dataclass(frozen=True)
class DataSource:
    """Where a data set lies and how it is divided; the keys of the ``data`` configuration.

    Attributes:
        root: the folder; findings name files relative to it.
        layout: folder -> pairs.
        fractions, split_seed: of the split by patient.
        pixel_mm: edge of a pixel in millimetres for files that don't say; None expects nothing.
        val_root, test_root: folders of their own for validation and test.
        batch_size: least number of training pairs.
    """

    root: Path
    layout: Layout
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    split_seed: int = 0
    pixel_mm: float | None = None
    val_root: Path | None = None
    test_root: Path | None = None
    batch_size: int = 1

    @property
    def own_roots(self) -> dict[str, Path]:
        """Side -> the folder that decides it."""
        roots = {"val": self.val_root, "test": self.test_root}
        return {side: folder for side, folder in roots.items() if folder is not None}

    def folders(self) -> list[tuple[Path, str | None]]:
        """Each folder with the side that it decides."""
        return [(self.root, None), *((folder, side) for side, folder in self.own_roots.items())]


@dataclass(frozen=True)
class Structure:
    """What :func:`look_at_structure` found.

    Attributes:
        findings: worst first within each part.
        pairs: with the unusable images taken out; each with its side where that is decided.
        sides: patient -> train, val or test; empty when the split can't be made.
        files: images that are there, usable or not.
    """

    findings: list[Finding]
    pairs: list[Pair]
    sides: dict[str, str]
    files: int


def look_at_structure(source: DataSource) -> Structure:
    """List the pairs, read the headers and judge what needs no pixels."""
    findings: list[Finding] = []
    pairs: list[Pair] = []
    for folder, side in source.folders():
        try:
            found = source.layout(folder)
        except DataError as error:
            findings.append(Finding("error", shown(folder, source.root), "layout", str(error), "See there."))
            continue
        findings += _partners(source, found, folder)
        pairs += [replace(pair, split=side or pair.split) for pair in found]
    paths = [path for pair in pairs for path in (pair.condition, pair.target) if path is not None]
    headers = _headers(source, paths, findings)
    findings += _names(source, pairs)
    findings += check_sizes(pairs, headers, source.root, source.pixel_mm)
    sides = _sides(source, pairs, findings)
    usable = [_without_bad(pair, headers) for pair in pairs]
    return Structure(findings, [pair for pair in usable if pair.condition or pair.target], sides, len(paths))


def _without_bad(pair: Pair, headers: dict[Path, TifHeader]) -> Pair:
    condition = pair.condition if pair.condition in headers else None
    return replace(pair, condition=condition, target=pair.target if pair.target in headers else None)


def _headers(source: DataSource, paths: list[Path], findings: list[Finding]) -> dict[Path, TifHeader]:
    """The headers of the usable files; a finding for each of the others."""
    roots = [folder for folder, _ in source.folders()]

    def look(path: Path) -> TifHeader | Finding:
        if all(leaves_root(root, path) for root in roots):
            what = f"leads out of the data root, to {path.resolve()}"
            fix = "Copy the file into the data root, or set data.root to the folder that holds it."
            return Finding("error", shown(path, source.root), "outside", what, fix)
        try:
            return inspect(path)
        except TifError as error:
            return file_finding(error, source.root)

    headers = {}
    with ThreadPoolExecutor(READERS) as readers:
        for path, found in zip(paths, readers.map(look, paths), strict=True):
            if isinstance(found, Finding):
                findings.append(found)
            else:
                headers[path] = found
    return headers


def _partners(source: DataSource, pairs: list[Pair], folder: Path) -> list[Finding]:
    """An empty set, and images whose partner is missing."""
    place = shown(folder, source.root)
    if not pairs:
        fix = "Set data.root to the folder that holds the images, or data.layout to what it looks like."
        return [
            Finding("error", place, "no_images", "holds no .tif image where the layout looks for them", fix)
        ]
    lacking: list[Finding] = []
    for pair in pairs:
        present, missing = pair.condition or pair.target, "target" if pair.condition else "condition"
        if present is not None and not (pair.condition and pair.target):
            name = shown(present, source.root)
            what = f"has no {missing} image: pairs belong together by file name"
            lacking.append(
                Finding("error", name, "missing_partner", what, "Add the partner, or remove it.", (name,))
            )
    function = source.layout.func if isinstance(source.layout, partial) else source.layout
    if len(lacking) == len(pairs) and len({finding.what for finding in lacking}) == 1:
        if function is not paired_folders:
            return []  # a set of single images, as the layout says
        fix = "Add the partners under the same names; for images without partners set data/layout=single."
        return [
            replace(lacking[0], file=WHOLE_SET, what=f"none of {len(pairs)} images has a partner", fix=fix)
        ]
    return lacking


def _names(source: DataSource, pairs: list[Pair]) -> list[Finding]:
    """Images of no patient: they could stand on any side of the split."""
    nameless = [
        Finding(
            "error",
            shown(path, source.root),
            "no_patient",
            "no patient can be read from its name",
            "Rename it as <slice>_<site>_<year>_<month>_<patient>, or set data.layout.patient_pattern.",
        )
        for pair in pairs
        if not pair.patient
        for path in (pair.condition, pair.target)
        if path is not None
    ]
    return once_for_all(nameless, len(pairs))


def _sides(source: DataSource, pairs: list[Pair], findings: list[Finding]) -> dict[str, str]:
    """The side of each patient; findings for patients on two sides and for sides that can't be filled."""
    given: dict[str, dict[str, Pair]] = defaultdict(dict)
    for pair in pairs:
        # What a folder of its own doesn't decide, the root's fractions do: there it stands to be trained on.
        if pair.patient and (pair.split or source.own_roots):
            given[pair.patient].setdefault(pair.split or "train", pair)
    torn = [_torn(source, patient, stands) for patient, stands in given.items() if len(stands) > 1]
    findings += torn
    if torn or not pairs or any(finding.fault in _NO_SPLIT for finding in findings):
        return {}
    try:
        stands = splits_of(pairs, source.split_seed, _shares(source))
    except DataError as error:
        fix = "Add patients, or change the shares."
        findings.append(Finding("error", WHOLE_SET, "split", str(error), fix))
        return {}
    sides = {pair.patient: side for pair, side in zip(pairs, stands, strict=True)}
    training = sum(sides[pair.patient] == "train" for pair in pairs)
    if training < source.batch_size:
        what = f"{training} pairs to train on are fewer than one batch of {source.batch_size}"
        fix = f"Set data.batch_size={max(training, 1)}, or add images."
        findings.append(Finding("error", WHOLE_SET, "few_images", what, fix))
    return sides


def _shares(source: DataSource) -> tuple[float, float, float]:
    """The fractions; the share of a side with a folder of its own goes to the others."""
    if not source.own_roots:
        return source.fractions
    kept = [
        0.0 if side in source.own_roots else part for side, part in zip(SPLITS, source.fractions, strict=True)
    ]
    train, val, test = (part / (sum(kept) or 1.0) for part in kept)
    return train, val, test


def _torn(source: DataSource, patient: str, given: dict[str, Pair]) -> Finding:
    files = {
        side: shown(path, source.root)
        for side, pair in given.items()
        if (path := pair.target or pair.condition)
    }
    listed = " and ".join(f"{side} ({file})" for side, file in sorted(files.items(), reverse=True))
    what = f"patient {patient} stands on two sides: {listed}"
    fix = "Put all images of a patient on one side: the model would be judged by bones that it has seen."
    file = next((file for side, file in files.items() if side != "train"), WHOLE_SET)
    return Finding("error", file, "split_patient", what, fix, tuple(files.values()))
