"""What only the whole set tells of a pair: swapped, exchanged, displaced, unlike."""

from collections.abc import Sequence

import numpy as np

from pti.check.image_facts import ImageFacts, PairFacts
from pti.check.pair_alignment import Alignment
from pti.check.swaps import Swap, find_exchanged, find_swaps
from pti.data.checks.findings import WHOLE_SET, Finding, Severity

SHIFT_FLOOR = 2.0  # px; sound pairs reach 0.5, and 2 px are less than the error of a ridge measured by hand
TURN_FLOOR = 1.5  # degrees; sound pairs reach 0.4; over a ridge of 60 px, 1.5 degrees are 1.6 px
SPREADS = 6.0  # robust standard deviations from the set's middle: in normal scatter one pair in 5 × 10^8
UNLIKE = 0.6  # part of the set's usual correlation below which the two images show different things


def find_pair_faults(facts: Sequence[PairFacts]) -> list[Finding]:
    """Findings on pairs of which both images could be read and show something; worst first."""
    pairs = [pair for pair in facts if all(side and side.portrait for side in (pair.condition, pair.target))]
    if len(pairs) < 2:
        return []
    patients = [pair.pair.patient for pair in pairs]
    exchanged = set(find_exchanged(_differences(pairs), patients) or [])
    findings = [_exchanged(pairs[place]) for place in sorted(exchanged)]
    # An exchanged pair's images fit nothing on the other side, or everything.
    pairs = [pair for place, pair in enumerate(pairs) if place not in exchanged]
    maps = [np.stack([getattr(pair, side).structure for pair in pairs]) for side in ("condition", "target")]
    swaps = find_swaps(*maps)
    swapped = {place for swap in swaps for place in swap.places[: None if swap.closed else 1]}
    findings += [finding for swap in swaps for finding in _swapped(pairs, swap)]
    return findings + _placements([pair for place, pair in enumerate(pairs) if place not in swapped])


def _exchanged(pair: PairFacts) -> Finding:
    what = "condition and target look exchanged: each resembles the images of the other folder"
    return Finding("error", pair.images[0], "exchanged", what, "Exchange the two files.", pair.images)


def _differences(pairs: Sequence[PairFacts]) -> np.ndarray:
    """(N, K): intensities of the tissue, its area, where it begins and its form, condition minus target."""

    def features(image: ImageFacts) -> np.ndarray:
        form = image.portrait.form.astype(float) if image.portrait else np.zeros(256)
        assert image.quantiles is not None
        return np.concatenate((image.quantiles, [np.log(image.tissue), image.top], form))

    return np.stack(
        [features(pair.condition) - features(pair.target) for pair in pairs if pair.condition and pair.target]
    )


def _swapped(pairs: Sequence[PairFacts], swap: Swap) -> list[Finding]:
    """One finding for each pair of the chain: each of them is wrong."""
    severity: Severity = "error" if swap.certain else "warning"
    following = swap.places[1:] + swap.places[:1]
    if not swap.closed:
        first, second = (pairs[place] for place in swap.places)
        what = (
            f"its condition fits the target of {second.pair.name} better (edges agree {swap.gain:.2f} more)"
        )
        fix = "See which target belongs to it."
        return [Finding(severity, first.images[0], "swapped", what, fix, first.images + second.images)]
    kind = (
        "two pairs have exchanged targets"
        if len(swap.places) == 2
        else f"{len(swap.places)} pairs are out of step"
    )
    found = []
    for place, other in zip(swap.places, following, strict=True):
        here, there = pairs[place], pairs[other]
        what = f"its condition belongs to the target of {there.pair.name}: {kind} "
        what += f"(edges agree {swap.gain:.2f} more)"
        fix = f"{there.images[1]} belongs here: give it the name {here.pair.name}."
        found.append(Finding(severity, here.images[0], "swapped", what, fix, here.images + there.images))
    return found


def _placements(pairs: Sequence[PairFacts]) -> list[Finding]:
    """Pairs that are shifted, turned or show different things, against what is usual in the set."""
    placed = [(pair, pair.alignment) for pair in pairs if pair.alignment]
    if not placed:
        return []
    shifts = np.array([(movement.shift_y_px, movement.shift_x_px) for _, movement in placed])
    turns = np.array([movement.rotation_deg for _, movement in placed])
    scores = np.array([movement.score for _, movement in placed])
    usual, turn, score = np.median(shifts, 0), float(np.median(turns)), float(np.median(scores))
    shift_bar = max(SHIFT_FLOOR, SPREADS * float(np.max(robust_spread(shifts))))
    turn_bar = max(TURN_FLOOR, SPREADS * float(robust_spread(turns)))
    score_bar = min(UNLIKE * score, score - SPREADS * float(robust_spread(scores)))
    findings = _all_displaced(usual, turn)
    excess = np.maximum(np.linalg.norm(shifts - usual, axis=1) / shift_bar, np.abs(turns - turn) / turn_bar)
    for place in np.argsort(-excess):
        pair, movement = placed[place]
        if scores[place] < score_bar:
            what = "condition and target share little: "
            what += f"their edges correlate {scores[place]:.2f}, usually {score:.2f}"
            fix = "See whether both show the same bone."
            findings.append(Finding("warning", pair.images[0], "unlike", what, fix, pair.images))
        elif excess[place] > 1:
            told = _displacement(movement, pair.pixel_mm)
            what = f"its target {told} (confidence {movement.confidence:.2f})"
            fix = "Register the pair again; leave it if the bone has truly moved."
            findings.append(Finding("warning", pair.images[0], "shifted", what, fix, pair.images))
    return findings


def _displacement(movement: Alignment, pixel_mm: float | None) -> str:
    parts = []
    if movement.shift_px >= 0.5:
        size = f" = {movement.shift_px * pixel_mm:.2f} mm" if pixel_mm else ""
        where = _direction(movement.shift_y_px, movement.shift_x_px)
        parts.append(f"stands {where} by {movement.shift_px:.1f} px{size}")
    if abs(movement.rotation_deg) >= 0.5:
        sense = "clockwise" if movement.rotation_deg > 0 else "anticlockwise"
        parts.append(f"is turned {sense} by {abs(movement.rotation_deg):.1f}°")
    return " and ".join(parts)


def _all_displaced(shift: np.ndarray, turn: float) -> list[Finding]:
    """A displacement that all pairs share is one of the export."""
    length = float(np.hypot(*shift))
    if length < SHIFT_FLOOR and abs(turn) < TURN_FLOOR:
        return []
    what = f"the usual target stands {_direction(*shift)} by {length:.1f} px and is turned by {turn:.1f}°"
    fix = "Look for a difference between the exports of the two folders, such as cropping or resampling."
    return [Finding("warning", WHOLE_SET, "shifted", what, fix)]


def _direction(down: float, right: float) -> str:
    parts = []
    if abs(down) > 0.4 * abs(right):
        parts.append("too low" if down > 0 else "too high")
    if abs(right) > 0.4 * abs(down):
        parts.append("too far right" if right > 0 else "too far left")
    return " and ".join(parts) or "in place"


def robust_spread(values: np.ndarray) -> np.ndarray:
    """Robust standard deviation along the first axis (1.4826 × median absolute deviation)."""
    return 1.4826 * np.median(np.abs(values - np.median(values, 0)), 0)
