"""Faults of pairs that show in comparison with the whole set: swapped, exchanged, displaced, mismatched."""

from collections.abc import Sequence

import numpy as np

from pti.check.image_facts import ImageFacts, PairFacts
from pti.check.pair_alignment import Alignment
from pti.check.swaps import Swap, find_exchanged, find_swaps
from pti.check.thresholds import THRESHOLDS, robust_std
from pti.data.checks.findings import WHOLE_SET, Finding, Severity

ROLES = ("condition", "target")


def find_pair_faults(facts: Sequence[PairFacts]) -> list[Finding]:
    """Check the pairs whose images could both be read and show tissue; each fault's worst findings first."""
    pairs = [pair for pair in facts if all(image and image.portrait for image in pair.both)]
    if len(pairs) < 2:
        return []
    patients = [pair.pair.patient for pair in pairs]
    exchanged = set(find_exchanged(_differences(pairs), patients) or [])
    findings = [_exchanged(pairs[index]) for index in sorted(exchanged)]
    # The images of an exchanged pair fit no image of the other folder, or all of them.
    pairs = [pair for index, pair in enumerate(pairs) if index not in exchanged]
    swaps = find_swaps(*(np.stack([getattr(pair, role).structure for pair in pairs]) for role in ROLES))
    swapped = {index for swap in swaps for index in swap.pairs[: None if swap.closed else 1]}
    findings += [finding for swap in swaps for finding in _swapped(pairs, swap)]
    return findings + _displaced([pair for index, pair in enumerate(pairs) if index not in swapped])


def _exchanged(pair: PairFacts) -> Finding:
    what = "condition and target seem to be exchanged: each resembles the images of the other folder"
    return Finding("error", pair.images[0], "exchanged", what, "Exchange the two files.", pair.images)


def _differences(pairs: Sequence[PairFacts]) -> np.ndarray:
    """Subtract target from condition in intensities, tissue area, first row with tissue and form; (N, K)."""

    def features(image: ImageFacts) -> np.ndarray:
        form = image.portrait.form.astype(float) if image.portrait else np.zeros(256)
        assert image.quantiles is not None
        return np.concatenate((image.quantiles, [np.log(image.tissue), image.top], form))

    return np.stack(
        [features(pair.condition) - features(pair.target) for pair in pairs if pair.condition and pair.target]
    )


def _swapped(pairs: Sequence[PairFacts], swap: Swap) -> list[Finding]:
    """Report each pair of a chain, since each of them is wrong."""
    severity: Severity = "error" if swap.certain else "warning"
    gain = f"(edge correlation {swap.gain:.2f} higher)"
    if not swap.closed:
        first, second = (pairs[index] for index in swap.pairs)
        what = f"its condition fits the target of {second.pair.name} better {gain}"
        fix = "Find out which target belongs to it."
        return [Finding(severity, first.images[0], "swapped", what, fix, first.images + second.images)]
    count = len(swap.pairs)
    kind = (
        "the targets of two pairs are swapped" if count == 2 else f"the targets of {count} pairs are permuted"
    )
    findings = []
    for index, following in zip(swap.pairs, swap.pairs[1:] + swap.pairs[:1], strict=True):
        pair, other = pairs[index], pairs[following]
        what = f"its condition belongs to the target of {other.pair.name}: {kind} {gain}"
        fix = f"{other.images[1]} belongs to this pair: rename it to {pair.pair.name}."
        findings.append(Finding(severity, pair.images[0], "swapped", what, fix, pair.images + other.images))
    return findings


def _displaced(pairs: Sequence[PairFacts]) -> list[Finding]:
    """Report pairs that are shifted or rotated more than usual in the set, or whose images don't match."""
    aligned = [(pair, pair.alignment) for pair in pairs if pair.alignment]
    if not aligned:
        return []
    shifts = np.array([(alignment.shift_y_px, alignment.shift_x_px) for _, alignment in aligned])
    rotations = np.array([alignment.rotation_deg for _, alignment in aligned])
    scores = np.array([alignment.score for _, alignment in aligned])
    shift, rotation, score = np.median(shifts, 0), float(np.median(rotations)), float(np.median(scores))
    std = THRESHOLDS.outlier_std
    max_shift = max(THRESHOLDS.shift_px, std * float(np.max(robust_std(shifts))))
    max_rotation = max(THRESHOLDS.rotation_deg, std * float(robust_std(rotations)))
    min_score = min(THRESHOLDS.unlike_correlation * score, score - std * float(robust_std(scores)))
    findings = _all_displaced(shift, rotation)
    excess = np.maximum(
        np.linalg.norm(shifts - shift, axis=1) / max_shift, np.abs(rotations - rotation) / max_rotation
    )
    for index in np.argsort(-excess):
        pair, alignment = aligned[index]
        if scores[index] < min_score:
            what = f"condition and target have little in common: edge correlation {scores[index]:.2f}, "
            what += f"usually {score:.2f}"
            fix = "Check that both images show the same bone."
            findings.append(Finding("warning", pair.images[0], "unlike", what, fix, pair.images))
        elif excess[index] > 1:
            what = f"its target {_displacement(alignment, pair.pixel_mm)}"
            what += f" (confidence {alignment.confidence:.2f})"
            fix = "Register the pair again, or keep it if the bone has really moved."
            findings.append(Finding("warning", pair.images[0], "shifted", what, fix, pair.images))
    return findings


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


def _all_displaced(shift: np.ndarray, rotation: float) -> list[Finding]:
    """Report a displacement that most pairs share, which points to the export."""
    length = float(np.hypot(*shift))
    if length < THRESHOLDS.shift_px and abs(rotation) < THRESHOLDS.rotation_deg:
        return []
    what = f"most targets are {_direction(*shift)} by {length:.1f} px and rotated by {rotation:.1f}°"
    fix = "Look for a difference between the exports of the two folders, such as cropping or resampling."
    return [Finding("warning", WHOLE_SET, "shifted", what, fix)]


def _direction(down: float, right: float) -> str:
    parts = []
    if abs(down) > 0.4 * abs(right):
        parts.append("too low" if down > 0 else "too high")
    if abs(right) > 0.4 * abs(down):
        parts.append("too far right" if right > 0 else "too far left")
    return " and ".join(parts) or "in place"
