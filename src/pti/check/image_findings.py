"""Faults of images that show in comparison with the whole set: copies, drift, border, background."""

from collections import Counter
from collections.abc import Container, Sequence

import numpy as np

from pti.check.image_facts import QUANTILES, ImageFacts, PairFacts, patient_quantiles
from pti.check.near_duplicates import Copy, find_copies, find_same_pixels
from pti.check.pair_findings import ROLES
from pti.check.thresholds import THRESHOLDS, robust_std
from pti.data.checks.findings import Finding, Severity, merge_widespread

Owned = tuple[PairFacts, ImageFacts]  # an image and its pair


def find_image_faults(facts: Sequence[PairFacts], misplaced: Container[str] = ()) -> list[Finding]:
    """Check all images that could be read; each fault's worst findings first.

    Args:
        facts: facts about every pair of the set.
        misplaced: images in a wrong place, which are not representative of their patient.
    """
    owned = [(pair, image) for pair in facts for image in pair.both if image is not None]
    images = [image for _, image in owned]
    in_place = [pair for pair in facts if not any(file in misplaced for file in pair.images)]
    return [
        *_blank(images),
        *_background(images),
        *_border(images),
        *_same_pixels(owned),
        *_copies(facts, misplaced),
        *(finding for role in ROLES for finding in _drift(in_place, role)),
    ]


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
        if image.background is not None:
            what = f"its background is {image.background:g}, expected exactly 0"
            fix = f"Set pixels[pixels == {image.background:g}] = 0 before saving; "
            fix += "shift tissue values that are 0 first."
        elif image.faint:
            what = "its background is faint noise, expected exactly 0"
            fix = "Set all pixels outside the tissue to 0."
        else:
            continue
        findings.append(Finding("error", image.file, "background", what, fix, (image.file,)))
    return merge_widespread(findings, len(images))


def _border(images: Sequence[ImageFacts]) -> list[Finding]:
    """Report images whose tissue touches the border: the bone may be cut off, and its measures wrong."""
    fix = "Crop with a wider margin, or keep it if the bone is complete."
    findings = []
    for image in sorted(images, key=lambda image: -image.border):
        if image.border > THRESHOLDS.border_tissue and image.background is None and not image.faint:
            what = f"tissue touches {image.border:.0%} of the image border"
            findings.append(Finding("warning", image.file, "border", what, fix, (image.file,)))
    return merge_widespread(findings, len(images))


def _same_pixels(owned: Sequence[Owned]) -> list[Finding]:
    """Report equal pixels under several names; across patients an error, since the split would leak."""
    findings = []
    for group in find_same_pixels([image.digest for _, image in owned]):
        members = sorted((owned[index] for index in group), key=lambda member: _belonging(member, owned))
        patients = sorted({pair.pair.patient for pair, _ in members})
        same_pair = len({pair.pair.name for pair, _ in members}) < len(members)
        severity: Severity = "error" if len(patients) > 1 or same_pair else "warning"
        files = [image.file for _, image in members]
        what = f"has the same pixels as {', '.join(files[1:4])}{' …' if len(files) > 4 else ''}"
        what += f", of another patient ({', '.join(patients)})" if len(patients) > 1 else ""
        fix = "Find out which name is right, and remove the others."
        findings.append(Finding(severity, files[0], "duplicate", what, fix, tuple(files[:4])))
    return findings


def _belonging(member: Owned, owned: Sequence[Owned]) -> tuple[float, float]:
    """Rate how well an image fits its partner and, second, the rest of its patient; a copy fits less well."""
    pair, image = member
    similarities = [
        float(np.dot(image.portrait.form.astype(float), other.portrait.form.astype(float)))
        for other_pair, other in owned
        if other_pair.pair.patient == pair.pair.patient
        and other_pair is not pair
        and image.portrait
        and other.portrait
    ]
    partner = 1.0 if pair.alignment is None else round(pair.alignment.score, 1)
    return partner, max(similarities, default=-1.0)


def _copies(facts: Sequence[PairFacts], misplaced: Container[str]) -> list[Finding]:
    """Report images of different patients that agree in their details; one finding for each copy."""
    findings = []
    for role in ROLES:
        images = [(pair.pair.patient, image) for pair in facts if (image := getattr(pair, role))]
        # Images with a finding already; their neighbours would be reported for resembling them.
        reported = {
            index for group in find_same_pixels([image.digest for _, image in images]) for index in group
        }
        reported |= {index for index, (_, image) in enumerate(images) if image.file in misplaced}
        images = [image for index, image in enumerate(images) if index not in reported]
        copies = find_copies([image.portrait for _, image in images], [patient for patient, _ in images])
        for hub, group in _by_hub(copies):
            others = [images[copy.second if copy.first == hub else copy.first][1].file for copy in group]
            what = (
                f"looks like {others[0]}, of another patient (details correlate {group[0].correlation:.2f})"
            )
            what += f"; also like {len(others) - 1} of its neighbours" if len(others) > 1 else ""
            fix = (
                "Check whether both show the same patient; if so, give them the same patient in their names."
            )
            file = images[hub][1].file
            findings.append(Finding("warning", file, "near_duplicate", what, fix, (file, others[0])))
    return findings


def _by_hub(copies: Sequence[Copy]) -> list[tuple[int, list[Copy]]]:
    """Group copies by the image that they share: a copy resembles one image and, less, its neighbours."""
    links = Counter(index for copy in copies for index in (copy.first, copy.second))
    groups: dict[int, list[Copy]] = {}
    for copy in copies:
        ends = (copy.first, copy.second)
        known = next((index for index in ends if index in groups), None)
        hub = max(ends, key=lambda index: links[index]) if known is None else known
        groups.setdefault(hub, []).append(copy)
    return list(groups.items())


def _drift(facts: Sequence[PairFacts], role: str) -> list[Finding]:
    """Report patients whose tissue is darker, brighter, or of lower or higher contrast than all others'."""
    quantiles = patient_quantiles([pair for pair in facts if pair.pair.patient], role)
    if len(quantiles) < THRESHOLDS.drift_patients:
        return []
    table = np.stack(list(quantiles.values()))
    medians, ranges = table[:, QUANTILES.index(50)], table[:, -1] - table[:, 0]
    usual, usual_range = float(np.median(medians)), max(float(np.median(ranges)), 1e-12)
    shifts = (medians - usual) / usual_range
    log_ratios = np.log(np.maximum(ranges, 1e-12) / usual_range)
    excess = np.zeros(len(table))
    for values in (shifts, log_ratios):
        limit = max(THRESHOLDS.drift, THRESHOLDS.outlier_std * float(robust_std(values)))
        excess = np.maximum(excess, np.abs(values) / limit)
    findings = []
    for index in np.argsort(-excess):
        if excess[index] <= 1:
            break
        patient = list(quantiles)[index]
        images = [getattr(pair, role) for pair in facts if pair.pair.patient == patient]
        files = tuple(image.file for image in images if image and image.quantiles is not None)[:4]
        what = (
            f"patient {patient}: the median of the {role} tissue is {medians[index]:.4g}, usually "
            f"{usual:.4g}; its range is {ranges[index]:.4g}, usually {usual_range:.4g}"
        )
        fix = "Check whether this patient was exported in other units; "
        fix += "model/normalization=masked_zscore compensates for it."
        findings.append(Finding("warning", files[0], "drift", what, fix, files))
    return findings
