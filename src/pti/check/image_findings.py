"""What only the whole set tells of an image: copies, drift, border, background."""

from collections import Counter, defaultdict
from collections.abc import Container, Sequence

import numpy as np

from pti.check.image_facts import QUANTILES, ImageFacts, PairFacts
from pti.check.near_duplicates import Copy, find_copies, find_same_pixels
from pti.check.pair_findings import SPREADS, robust_spread
from pti.data.checks.findings import Finding, Severity, once_for_all

BORDER_FLOOR = 0.01  # part of the outermost pixels that are tissue: about ten of 1020 in a 256 × 256 image
DRIFT_FLOOR = (
    0.25  # shift of a patient's median, or change of its range, in units of the tissue's usual range
)
DRIFT_PATIENTS = 5  # fewer patients have no usual value


def find_image_faults(facts: Sequence[PairFacts], misplaced: Container[str] = ()) -> list[Finding]:
    """Findings on all images that could be read; the worst of each fault first.

    Args:
        facts: the set.
        misplaced: images that are known to stand in the wrong place: they tell nothing of their patient.
    """
    images = [(pair, image) for pair in facts for image in (pair.condition, pair.target) if image is not None]
    alone = [image for _, image in images]
    return [
        *_blanks(alone),
        *_backgrounds(alone),
        *_borders(alone),
        *_same_pixels(images),
        *_copies(facts, misplaced),
        *_drift([pair for pair in facts if not any(file in misplaced for file in pair.images)]),
    ]


def _blanks(images: Sequence[ImageFacts]) -> list[Finding]:
    fix = "Remove it, or export it again: background is exactly 0, so an image of zeros shows nothing."
    return once_for_all(
        [
            Finding("error", image.file, "blank", "holds zeros only", fix, (image.file,))
            for image in images
            if image.quantiles is None
        ],
        len(images),
    )


def _backgrounds(images: Sequence[ImageFacts]) -> list[Finding]:
    """Images whose background is not exactly 0: tissue can't be told from it, all statistics are wrong."""
    findings = []
    for image in images:
        if image.background is not None:
            what = f"its background is {image.background:g}, not exactly 0"
            fix = f"pixels[pixels == {image.background:g}] = 0 before saving; move tissue values off 0 first."
        elif image.faint:
            what = "its background is faint noise, not exactly 0"
            fix = "Set everything outside the tissue to 0."
        else:
            continue
        findings.append(Finding("error", image.file, "background", what, fix, (image.file,)))
    return once_for_all(findings, len(images))


def _borders(images: Sequence[ImageFacts]) -> list[Finding]:
    """Images whose tissue touches the border: the bone may be cut off, and measures of it wrong."""
    touching = [
        image
        for image in sorted(images, key=lambda image: -image.border)
        if image.border > BORDER_FLOOR and image.background is None and not image.faint
    ]
    findings = [
        Finding(
            "warning",
            image.file,
            "border",
            f"tissue touches the border along {image.border:.0%} of it",
            "Crop wider, or leave it if the bone is whole.",
            (image.file,),
        )
        for image in touching
    ]
    return once_for_all(findings, len(images))


def _same_pixels(images: Sequence[tuple[PairFacts, ImageFacts]]) -> list[Finding]:
    """The same pixels under several names; across patients an error: a name is wrong, and the split leaks."""
    findings = []
    for group in find_same_pixels([image.digest for _, image in images]):
        members = sorted((images[place] for place in group), key=lambda member: _belongs(member, images))
        patients = sorted({pair.pair.patient for pair, _ in members})
        one_pair = len({pair.pair.name for pair, _ in members}) < len(members)
        severity: Severity = "error" if len(patients) > 1 or one_pair else "warning"
        files = [image.file for _, image in members]
        what = f"holds the same pixels as {', '.join(files[1:4])}{' …' if len(files) > 4 else ''}"
        what += f", of another patient ({', '.join(patients)})" if len(patients) > 1 else ""
        fix = "Find out which name is right, and remove the others."
        findings.append(Finding(severity, files[0], "duplicate", what, fix, tuple(files[:4])))
    return findings


def _belongs(
    member: tuple[PairFacts, ImageFacts], images: Sequence[tuple[PairFacts, ImageFacts]]
) -> tuple[float, float]:
    """How well an image fits its partner, then the likest other image of its patient: a copy does so less."""
    pair, image = member
    likeness = [
        float(np.dot(image.portrait.form.astype(float), other.portrait.form.astype(float)))
        for of, other in images
        if of.pair.patient == pair.pair.patient and of is not pair and image.portrait and other.portrait
    ]
    partner = 1.0 if pair.alignment is None else round(pair.alignment.score, 1)
    return partner, max(likeness, default=-1.0)


def _copies(facts: Sequence[PairFacts], misplaced: Container[str]) -> list[Finding]:
    """Images of different patients that agree in their details; one finding for each copy."""
    findings = []
    for side in ("condition", "target"):
        images = [(pair.pair.patient, image) for pair in facts if (image := getattr(pair, side))]
        same = find_same_pixels([image.digest for _, image in images])
        # Found already; their neighbours would be accused of resembling them.
        explained = {place for group in same for place in group}
        explained |= {place for place, (_, image) in enumerate(images) if image.file in misplaced}
        images = [found for place, found in enumerate(images) if place not in explained]
        copies = find_copies([image.portrait for _, image in images], [patient for patient, _ in images])
        for hub, group in _by_hub(copies):
            others = [images[copy.second if copy.first == hub else copy.first][1].file for copy in group]
            what = f"looks like {others[0]}, of another patient (details correlate {group[0].likeness:.2f})"
            what += f"; also like {len(others) - 1} of its neighbours" if len(others) > 1 else ""
            fix = "See whether both show one patient: if so, give them one patient's name."
            file = images[hub][1].file
            findings.append(Finding("warning", file, "near_duplicate", what, fix, (file, others[0])))
    return findings


def _by_hub(copies: Sequence[Copy]) -> list[tuple[int, list[Copy]]]:
    """Copies grouped by the image that they share: it resembles one image and, less, its neighbours."""
    links = Counter(place for copy in copies for place in (copy.first, copy.second))
    groups: dict[int, list[Copy]] = {}
    for copy in copies:
        known = next((place for place in (copy.first, copy.second) if place in groups), None)
        hub = max((copy.first, copy.second), key=lambda place: links[place]) if known is None else known
        groups.setdefault(hub, []).append(copy)
    return list(groups.items())


def _drift(facts: Sequence[PairFacts]) -> list[Finding]:
    """Patients whose tissue is darker, brighter, flatter or richer in contrast than everybody else's."""
    findings = []
    for side in ("condition", "target"):
        images: dict[str, list[ImageFacts]] = defaultdict(list)
        levels: dict[str, list[np.ndarray]] = defaultdict(list)
        for pair in facts:
            image = getattr(pair, side)
            if image is not None and image.quantiles is not None and pair.pair.patient:
                images[pair.pair.patient].append(image)
                levels[pair.pair.patient].append(image.quantiles)
        if len(images) < DRIFT_PATIENTS:
            continue
        quantiles = {patient: np.median(np.stack(of), 0) for patient, of in levels.items()}
        findings += _drifted(side, quantiles, images)
    return findings


def _drifted(
    name: str, quantiles: dict[str, np.ndarray], images: dict[str, list[ImageFacts]]
) -> list[Finding]:
    table = np.stack(list(quantiles.values()))
    middles, ranges = table[:, QUANTILES.index(50)], table[:, -1] - table[:, 0]
    usual, reach = float(np.median(middles)), max(float(np.median(ranges)), 1e-12)
    moved, stretched = (middles - usual) / reach, np.log(np.maximum(ranges, 1e-12) / reach)
    bars = [max(DRIFT_FLOOR, SPREADS * float(robust_spread(values))) for values in (moved, stretched)]
    excess = np.maximum(np.abs(moved) / bars[0], np.abs(stretched) / bars[1])
    findings = []
    for place in np.argsort(-excess):
        if excess[place] <= 1:
            break
        patient = list(quantiles)[place]
        files = tuple(image.file for image in images[patient][:4])
        what = (
            f"patient {patient}: the {name} tissue's median is {middles[place]:.4g}, usually {usual:.4g}, "
            f"and its range {ranges[place]:.4g}, usually {reach:.4g}"
        )
        fix = "See whether this patient was exported in other units; "
        fix += "model/normalization=masked_zscore evens it out."
        findings.append(Finding("warning", files[0], "drift", what, fix, files))
    return findings
