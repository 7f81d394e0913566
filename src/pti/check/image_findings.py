"""Faults of images that show in comparison with the whole set: copies, drift, border, background."""

import math
from collections import Counter, defaultdict
from collections.abc import Container, Sequence

import numpy as np

from pti.check.image_facts import QUANTILES, ImageFacts, PairFacts, patient_quantiles
from pti.check.near_duplicates import Copy, find_copies
from pti.check.thresholds import THRESHOLDS
from pti.data.checks.findings import Finding, Severity, merge_widespread
from pti.data.layouts import ROLES

Owned = tuple[PairFacts, ImageFacts]  # an image and its pair


def find_image_faults(facts: Sequence[PairFacts], misplaced: Container[str] = ()) -> list[Finding]:
    """Check all images that could be read; each fault's worst findings first.

    Args:
        facts: facts about every pair of the set.
        misplaced: images in a wrong place, which are not representative of their patient.
    """
    owned = [(pair, image) for pair in facts for image in pair.images.values()]
    images = [image for _, image in owned]
    in_place = [pair for pair in facts if not any(file in misplaced for file in pair.files)]
    findings = [*_blank(images), *_background(images), *_border(images), *_same_pixels(owned)]
    for role in ROLES:
        findings += _copies(facts, role, misplaced)
        findings += _drift(in_place, role)
    return findings


def _blank(images: Sequence[ImageFacts]) -> list[Finding]:
    """Report images without tissue."""
    fix = "Remove it or export it again: the background is exactly 0, so an image of zeros shows nothing."
    blank = [image.file for image in images if image.quantiles is None]
    findings = [Finding("error", file, "blank", "holds only zeros", fix, (file,)) for file in blank]
    return merge_widespread(findings, len(images))


def _background(images: Sequence[ImageFacts]) -> list[Finding]:
    """Report images whose background is not exactly 0: it counts as tissue and distorts all statistics."""
    findings = []
    for image in images:
        value, fix = f"{image.background:g}", "Set all pixels outside the tissue to 0."
        if math.isnan(image.background):
            value = "faint noise"
        elif image.background:
            fix = f"Set pixels[pixels == {value}] = 0 before saving; shift tissue values that are 0 first."
        else:
            continue
        what = f"its background is {value}, expected exactly 0"
        findings.append(Finding("error", image.file, "background", what, fix, (image.file,)))
    return merge_widespread(findings, len(images))


def _border(images: Sequence[ImageFacts]) -> list[Finding]:
    """Report images whose tissue touches the border: the bone may be cut off, and its measures wrong."""
    fix = "Crop with a wider margin, or keep it if the bone is complete."
    findings = []
    for image in sorted(images, key=lambda image: -image.border):
        if image.border > THRESHOLDS.border_tissue and image.background == 0:
            what = f"tissue touches {image.border:.0%} of the image border"
            findings.append(Finding("warning", image.file, "border", what, fix, (image.file,)))
    return merge_widespread(findings, len(images))


def _same_pixels(owned: Sequence[Owned]) -> list[Finding]:
    """Report equal pixels under several names; across patients an error, since the split would leak."""
    groups: dict[bytes, list[Owned]] = defaultdict(list)
    for pair, image in owned:
        if image.digest is not None:
            groups[image.digest].append((pair, image))
    findings = []
    for group in groups.values():
        if len(group) == 1:
            continue
        group.sort(key=lambda member: _belonging(*member, owned))
        patients = sorted({pair.pair.patient for pair, _ in group})
        same_pair = len({pair.pair.name for pair, _ in group}) < len(group)
        severity: Severity = "error" if len(patients) > 1 or same_pair else "warning"
        files = [image.file for _, image in group]
        what = f"has the same pixels as {', '.join(files[1:4])}{' …' if len(files) > 4 else ''}"
        what += f", of another patient ({', '.join(patients)})" if len(patients) > 1 else ""
        fix = "Find out which name is right, and remove the others."
        findings.append(Finding(severity, files[0], "duplicate", what, fix, tuple(files[:4])))
    return findings


def _belonging(pair: PairFacts, image: ImageFacts, owned: Sequence[Owned]) -> tuple[float, float]:
    """Rate how well an image fits its partner and, second, the rest of its patient; a copy fits less well."""
    similarities = [
        float(image.portrait.form.astype(float) @ other.portrait.form.astype(float))
        for other_pair, other in owned
        if other_pair.pair.patient == pair.pair.patient and other_pair is not pair
        if image.portrait and other.portrait
    ]
    partner = 1.0 if pair.alignment is None else round(pair.alignment.score, 1)
    return partner, max(similarities, default=-1.0)


def _copies(facts: Sequence[PairFacts], role: str, misplaced: Container[str]) -> list[Finding]:
    """Report images of different patients that agree in their details; one finding for each copy."""
    candidates = [(pair.pair.patient, pair.images[role]) for pair in facts if role in pair.images]
    # Images with a finding already are left out: their neighbours would be reported for resembling them.
    counts = Counter(image.digest for _, image in candidates)
    patients, portraits, files = [], [], []
    for patient, image in candidates:
        if image.portrait and counts[image.digest] == 1 and image.file not in misplaced:
            patients.append(patient)
            portraits.append(image.portrait)
            files.append(image.file)
    findings = []
    for hub, group in _by_hub(find_copies(portraits, patients)).items():
        others = [files[copy.second if copy.first == hub else copy.first] for copy in group]
        what = f"looks like {others[0]}, of another patient (details correlate {group[0].correlation:.2f})"
        what += f"; also like {len(others) - 1} of its neighbours" if len(others) > 1 else ""
        fix = "Check whether both show the same patient; if so, give them the same patient in their names."
        images = (files[hub], others[0])
        findings.append(Finding("warning", files[hub], "near_duplicate", what, fix, images))
    return findings


def _by_hub(copies: Sequence[Copy]) -> dict[int, list[Copy]]:
    """Group copies by the image that they share: a copy resembles one image and, less, its neighbours."""
    links = Counter(index for copy in copies for index in (copy.first, copy.second))
    groups: dict[int, list[Copy]] = {}
    for copy in copies:
        ends = (copy.first, copy.second)
        hub = next((index for index in ends if index in groups), max(ends, key=lambda index: links[index]))
        groups.setdefault(hub, []).append(copy)
    return groups


def _drift(facts: Sequence[PairFacts], role: str) -> list[Finding]:
    """Report patients whose tissue is darker, brighter, or of lower or higher contrast than all others'."""
    quantiles = patient_quantiles((pair for pair in facts if pair.pair.patient), role)
    if len(quantiles) < THRESHOLDS.drift_patients:
        return []
    patients, table = list(quantiles), np.stack(list(quantiles.values()))
    usual, usual_range = np.median(table, 0)[QUANTILES.index(50)], np.median(table[:, -1] - table[:, 0])
    excess = np.max(_drifts(table), 0)
    fix = "Check whether this patient was exported in other units; "
    fix += "model/normalization=masked_zscore compensates for it."
    findings = []
    for index in np.argsort(-excess)[: np.count_nonzero(excess > 1)]:
        images = [pair.images.get(role) for pair in facts if pair.pair.patient == patients[index]]
        files = tuple(image.file for image in images if image and image.quantiles is not None)[:4]
        what = (
            f"patient {patients[index]}: the median of the {role} tissue is "
            f"{table[index, QUANTILES.index(50)]:.4g}, usually {usual:.4g}; its range is "
            f"{table[index, -1] - table[index, 0]:.4g}, usually {usual_range:.4g}"
        )
        findings.append(Finding("warning", files[0], "drift", what, fix, files))
    return findings


def _drifts(table: np.ndarray) -> np.ndarray:
    """Rate how far each patient's tissue is offset, scaled or stretched, in units of the limits: (3, N).

    Other units change all quantiles alike, other anatomy some of them: more marrow the middle, a metal crown
    the top. What all quantiles have in common, the smallest change if all have one sign, is the drift.
    ``table`` is (N, len(QUANTILES)).
    """
    positive, inner = np.maximum(table, 1e-12), slice(1, -1)
    spreads = np.maximum(table[:, :2:-1][:, :3] - table[:, :3], 1e-12)  # 2-98, 10-90 and 25-75 %
    usual_range = np.median(spreads, 0)[0]
    limits = (THRESHOLDS.drift, THRESHOLDS.drift, THRESHOLDS.drift_contrast)
    excess = []
    for values, limit in zip(
        (table[:, inner] / usual_range, np.log(positive)[:, inner], np.log(spreads)), limits, strict=True
    ):
        changes = values - np.median(values, 0)
        common = np.maximum(changes.min(1), 0) - np.minimum(changes.max(1), 0)
        excess.append(common / max(limit, THRESHOLDS.outlier_std * 1.4826 * np.median(common)))
    return np.stack(excess)
