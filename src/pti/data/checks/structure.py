"""Checks that decode no image: files, names, partners, patients, headers and the split."""

import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path

from pti.common.errors import DataError
from pti.common.path_settings import setting
from pti.data.batches import too_few_samples
from pti.data.checks.findings import (
    WHOLE_SET,
    Finding,
    file_finding,
    merge_widespread,
    message_finding,
    relative_name,
)
from pti.data.checks.headers import check_headers
from pti.data.checks.source import DataSource
from pti.data.layouts import STAY_INSIDE, Pair, leaves_root, paired_folders
from pti.data.patient_split import fractions_of_root, splits_of
from pti.data.splits import evenly_spaced
from pti.data.tif import TifError, TifHeader, inspect

_PREVENT_SPLIT = ("layout", "no_images", "no_patient", "outside")  # mending these faults changes the split
_READERS = 8  # threads; reading headers mostly waits for the disk or the network


@dataclass(frozen=True)
class Structure:
    """Result of :func:`check_structure`.

    Attributes:
        findings: the problems, in the order of the checks.
        pairs: pairs without their unusable images, each with its split where the data set determines it.
        splits: patient -> ``train``, ``val`` or ``test``; empty when the patients can't be split.
        files: number of images, usable or not.
    """

    findings: list[Finding]
    pairs: list[Pair]
    splits: dict[str, str]
    files: int


def check_structure(source: DataSource) -> Structure:
    """List the pairs, read all headers and report every problem that shows without the pixels."""
    findings: list[Finding] = []
    pairs: list[Pair] = []
    for split, folder in {None: source.root, **source.extra_roots}.items():
        try:
            listed = source.layout(folder)
        except DataError as error:
            findings.append(message_finding(error, relative_name(folder, source.root), "layout"))
            continue
        findings += _check_partners(source, listed, folder)
        pairs += [replace(pair, split=split or pair.split) for pair in listed]
    paths = [path for pair in pairs for path in pair.files.values()]
    headers = _read_headers(source, paths, findings)
    findings += _check_patients(source, pairs)
    splits = _split_patients(source, pairs, findings)
    usable = [
        replace(pair, **{role: None for role, path in pair.files.items() if path not in headers})
        for pair in pairs
    ]
    findings += check_headers(usable, headers, source.root, source.pixel_mm)
    return Structure(findings, [pair for pair in usable if pair.files], splits, len(paths))


def _read_headers(source: DataSource, paths: list[Path], findings: list[Finding]) -> dict[Path, TifHeader]:
    """Read the headers of the usable files; add a finding for each of the others."""
    roots = [source.root, *source.extra_roots.values()]
    outside = [path for path in paths if all(leaves_root(root, path, source.allow_links) for root in roots)]
    findings += _describe_outside(outside, source.root)
    paths = sorted({*paths} - {*outside})

    def read_header(path: Path) -> TifHeader | Finding:
        try:
            return inspect(path)
        except TifError as error:
            return file_finding(error, source.root)

    with ThreadPoolExecutor(_READERS) as readers:
        results = list(readers.map(read_header, paths))
    findings += [result for result in results if isinstance(result, Finding)]
    return {
        path: result for path, result in zip(paths, results, strict=True) if isinstance(result, TifHeader)
    }


def _describe_outside(paths: list[Path], root: Path) -> list[Finding]:
    """Report files outside the roots; those in one folder together."""
    findings = []
    for folder, group in groupby(sorted(paths), lambda path: path.parent):
        files, linked = list(group), leaves_root(root, folder)
        place = folder if linked else files[0]
        what = f"leads out of the data root, to {os.path.realpath(place)}"
        if len(files) > 1 and not linked:
            what = f"contains {len(files)} files that lead out of the data root: {files[0].name} {what}"
        name = relative_name(folder if len(files) > 1 else files[0], root)
        findings.append(Finding("error", name, "outside", what, STAY_INSIDE))
    return findings


def _check_partners(source: DataSource, pairs: list[Pair], folder: Path) -> list[Finding]:
    """Report an empty folder and images without a partner."""
    if not pairs:
        name = relative_name(folder, source.root)
        what = "holds no .tif image where the layout expects them"
        fix = "Set data.root to the folder that holds the images, or data.layout to its layout."
        return [Finding("error", name, "no_images", what, fix)]
    fix = "Add the missing image, or remove this one."
    lonely: list[Finding] = []
    for pair in pairs:
        if len(pair.files) == 1:
            [path] = pair.files.values()
            name = relative_name(path, source.root)
            missing = "target" if pair.condition else "condition"
            what = f"has no {missing} image: the two images of a pair have the same file name"
            lonely.append(Finding("error", name, "missing_partner", what, fix, (name,)))
    if len(lonely) < len(pairs) or len({finding.what for finding in lonely}) > 1:
        return lonely
    function = source.layout.func if isinstance(source.layout, partial) else source.layout
    if function is not paired_folders:
        return []  # a set of single images, by its layout
    images = relative_name(next(iter(pairs[0].files.values())).parent, source.root)
    single = f"set data/layout=single and {setting('data.layout.folder', images)}"
    fix = f"Add the partners under the same names; for images without partners {single}."
    return [replace(lonely[0], file=WHOLE_SET, what=f"no image has a partner ({len(pairs)} in all)", fix=fix)]


def _check_patients(source: DataSource, pairs: list[Pair]) -> list[Finding]:
    """Report images without a patient, which can't be assigned to a split."""
    what = "no patient can be read from its name"
    fix = "Rename it as <slice>_<site>_<year>_<month>_<patient>, or set data.layout.patient_pattern."
    nameless = [
        Finding("error", relative_name(path, source.root), "no_patient", what, fix)
        for pair in pairs
        if not pair.patient
        for path in pair.files.values()
    ]
    return merge_widespread(nameless, sum(len(pair.files) for pair in pairs))


def _split_patients(source: DataSource, pairs: list[Pair], findings: list[Finding]) -> dict[str, str]:
    """Assign patients to splits; add findings for patients in two splits and splits that can't be filled."""
    files: dict[str, dict[str, str]] = defaultdict(dict)
    for pair in pairs:
        # Patients in the root may be trained on, unlike those in the separate folders.
        if pair.patient and (pair.split or source.extra_roots):
            file = relative_name(list(pair.files.values())[-1], source.root)
            files[pair.patient].setdefault(pair.split or "train", file)
    torn = [_patient_in_two_splits(*item) for item in files.items() if len(item[1]) > 1]
    findings += torn
    if torn or not pairs or any(finding.fault in _PREVENT_SPLIT for finding in findings):
        return {}
    fractions = fractions_of_root(source.fractions, source.extra_roots, source.fold)
    try:
        split_of_pair = splits_of(pairs, source.split_seed, fractions, source.fold)
    except DataError as error:
        findings.append(message_finding(error, WHOLE_SET, "split"))
        return {}
    trained = [pair for pair, split in zip(pairs, split_of_pair, strict=True) if split == "train"]
    trained = evenly_spaced(trained, source.subset)
    samples = sum(len(pair.files) for pair in trained) if source.sources == "both" else len(trained)
    if few := too_few_samples(samples, source.batch_size, source.devices):
        findings.append(Finding("error", WHOLE_SET, "few_images", *few))
    return {pair.patient: split for pair, split in zip(pairs, split_of_pair, strict=True)}


def _patient_in_two_splits(patient: str, files: dict[str, str]) -> Finding:
    """Report a patient with one file in each of several splits; ``files`` maps split to file."""
    listed = " and ".join(f"{split} ({file})" for split, file in sorted(files.items(), reverse=True))
    what = f"patient {patient} is in two splits: {listed}"
    fix = "Put all images of a patient into one split: otherwise the model is evaluated on bones it has seen."
    file = next(file for split, file in files.items() if split != "train")
    return Finding("error", file, "split_patient", what, fix, tuple(files.values()))
