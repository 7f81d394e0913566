"""Faults of pairs that show in comparison with the whole set: swapped, exchanged, displaced, mismatched."""

from collections.abc import Sequence

import numpy as np

from pti.check.image_facts import ImageFacts, PairFacts
from pti.check.pair_alignment import Alignment
from pti.check.swaps import Swap, find_exchanged, find_swaps
from pti.check.thresholds import THRESHOLDS, robust_std
from pti.data.checks.findings import WHOLE_SET, Finding, Severity
from pti.data.layouts import ROLES


def find_pair_faults(facts: Sequence[PairFacts]) -> list[Finding]:
    """Check the pairs whose images could both be read and show tissue; each fault's worst findings first."""
    pairs = [pair for pair in facts if sum(bool(image.portrait) for image in pair.images.values()) == 2]
    if len(pairs) < 2:
        return []
    differences = [_features(pair.images["condition"]) - _features(pair.images["target"]) for pair in pairs]
    patients = [pair.pair.patient for pair in pairs]
    exchanged = [pairs[index] for index in find_exchanged(np.stack(differences), patients) or []]
    what = "condition and target seem to be exchanged: each resembles the images of the other folder"
    fix = "Exchange the two files."
    findings = [Finding("error", pair.files[0], "exchanged", what, fix, pair.files) for pair in exchanged]
    # The images of an exchanged pair fit no image of the other folder, or all of them.
    pairs = [pair for pair in pairs if pair not in exchanged]
    swaps = find_swaps(*(np.stack([pair.images[role].edges for pair in pairs]) for role in ROLES))
    swapped = {index for swap in swaps for index in swap.pairs[: None if swap.closed else 1]}
    findings += [finding for swap in swaps for finding in _swapped(pairs, swap)]
    return findings + _displaced([pair for index, pair in enumerate(pairs) if index not in swapped])


def _features(image: ImageFacts) -> np.ndarray:
    """Describe an image by intensities, tissue area, first row with tissue and form; (K,)."""
    assert image.quantiles is not None
    assert image.portrait is not None
    return np.concatenate((image.quantiles, [np.log(image.tissue), image.top], image.portrait.form))


def _swapped(pairs: Sequence[PairFacts], swap: Swap) -> list[Finding]:
    """Report each pair of a chain, since each of them is wrong."""
    severity: Severity = "error" if swap.certain else "warning"
    gain = f"(edge correlation {swap.gain:.2f} higher)"
    count = len(swap.pairs)
    kind = "two pairs are swapped" if count == 2 else f"{count} pairs are permuted"
    following = swap.pairs[1:] + (swap.pairs[:1] if swap.closed else ())
    findings = []
    for index, other_index in zip(swap.pairs, following, strict=False):
        pair, other = pairs[index], pairs[other_index]
        what = f"its condition belongs to the target of {other.pair.name}: the targets of {kind} {gain}"
        fix = f"{other.files[1]} belongs to this pair: rename it to {pair.pair.name}."
        if not swap.closed:
            what = f"its condition fits the target of {other.pair.name} better {gain}"
            fix = "Find out which target belongs to it."
        findings.append(Finding(severity, pair.files[0], "swapped", what, fix, pair.files + other.files))
    return findings


def _displaced(pairs: Sequence[PairFacts]) -> list[Finding]:
    """Report pairs that are shifted or rotated more than usual in the set, or whose images don't match.

    A displacement counts if the evidence for it suffices; pairs without it are reported once, together.
    """
    aligned = [(pair, pair.alignment) for pair in pairs if pair.alignment]
    if not aligned:
        return []
    table = np.array([(a.shift_y_px, a.shift_x_px, a.rotation_deg, a.score) for _, a in aligned])
    judged = np.array([alignment.evidence > THRESHOLDS.evidence for _, alignment in aligned])
    usual = np.median(table[judged], 0) if judged.any() else np.zeros(4)
    scatter = THRESHOLDS.outlier_std * robust_std(table[judged]) if judged.any() else np.zeros(4)
    nominal = np.array([THRESHOLDS.shift_px, THRESHOLDS.rotation_deg])
    limits = np.maximum(nominal, (scatter[:2].max(), scatter[2]))
    min_score = min(THRESHOLDS.unlike_correlation * usual[3], usual[3] - scatter[3])
    down, right, rotation, _ = np.abs(table - usual).T
    deviations = np.stack((np.hypot(down, right), rotation), 1)
    excess = np.max(deviations / limits, 1)
    unjudged = ~judged & (np.max(deviations / nominal, 1) > 1)
    findings = _all_displaced(*usual[:3]) if judged.mean() > 0.5 else []
    for index in np.argsort(-excess):
        pair, alignment = aligned[index]
        if alignment.score < min_score:
            what = f"condition and target have little in common: edge correlation {alignment.score:.2f}, "
            what += f"usually {usual[3]:.2f}"
            fix = "Check that both images show the same bone."
            findings.append(Finding("warning", pair.files[0], "unlike", what, fix, pair.files))
        elif excess[index] > 1 and judged[index]:
            what = f"its target {_displacement(alignment, pair.pixel_mm)}"
            what += f" (evidence {alignment.evidence:.1f})"
            fix = "Register the pair again, or keep it if the bone has really moved."
            findings.append(Finding("warning", pair.files[0], "shifted", what, fix, pair.files))
    return findings + _unjudged([aligned[index][0] for index in np.flatnonzero(unjudged)], len(aligned))


def _unjudged(pairs: Sequence[PairFacts], total: int) -> list[Finding]:
    """Report once that the alignment of some pairs could not be judged."""
    if not pairs:
        return []
    count = f"{len(pairs)} of {total} pairs, for example {pairs[0].files[0]}"
    what = f"alignment could not be judged for {count}: their images share too few distinct edges"
    fix = "Look at a few of them; pairs.csv lists the evidence for each displacement."
    return [Finding("warning", WHOLE_SET, "unjudged", what, fix, pairs[0].files)]


def _displacement(alignment: Alignment, pixel_mm: float | None) -> str:
    parts = []
    if alignment.shift_px >= 0.5:
        length = f" = {alignment.shift_px * pixel_mm:.2f} mm" if pixel_mm else ""
        direction = _direction(alignment.shift_y_px, alignment.shift_x_px)
        parts.append(f"is {direction} by {alignment.shift_px:.1f} px{length}")
    if abs(alignment.rotation_deg) >= 0.5:
        sense = "clockwise" if alignment.rotation_deg > 0 else "anticlockwise"
        parts.append(f"is rotated {sense} by {abs(alignment.rotation_deg):.1f}°")
    return " and ".join(parts)


def _all_displaced(down: float, right: float, rotation: float) -> list[Finding]:
    """Report a displacement that most pairs share, which points to the export."""
    length = float(np.hypot(down, right))
    if length < THRESHOLDS.shift_px and abs(rotation) < THRESHOLDS.rotation_deg:
        return []
    what = f"most targets are {_direction(down, right)} by {length:.1f} px and rotated by {rotation:.1f}°"
    fix = "Look for a difference between the exports of the two folders, such as cropping or resampling."
    return [Finding("warning", WHOLE_SET, "shifted", what, fix)]


def _direction(down: float, right: float) -> str:
    parts = []
    if abs(down) > 0.4 * abs(right):
        parts.append("too low" if down > 0 else "too high")
    if abs(right) > 0.4 * abs(down):
        parts.append("too far right" if right > 0 else "too far left")
    return " and ".join(parts) or "in place"
