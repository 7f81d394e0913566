"""Patients to sides. No patient stands on two sides, and a patient's side depends on nobody else."""

import hashlib
from collections.abc import Iterable, Sequence

from pti.common.errors import DataError, UsageError
from pti.data.layouts import SPLITS, Pair, abbreviate


def splits_of(pairs: Sequence[Pair], seed: int, fractions: tuple[float, float, float]) -> list[str]:
    """The side of each pair: what the data set says, else by `split_patients`.

    Raises:
        UsageError: the fractions are no shares.
        DataError: a name without a patient, a patient on two sides, or fewer patients than sides.
    """
    if nameless := [pair.name for pair in pairs if not pair.patient]:
        fix = "Set data.layout.patient_pattern to what the names look like."
        raise DataError(f"{abbreviate(nameless)}: no patient can be read from these names. {fix}")
    said: dict[str, str] = {}
    for pair in pairs:
        if pair.split and said.setdefault(pair.patient, pair.split) != pair.split:
            found = f"the table puts this patient on the sides {said[pair.patient]} and {pair.split}"
            raise DataError(f"{pair.patient}: {found}. Give all images of a patient the same split.")
    rest = {pair.patient for pair in pairs} - said.keys()
    sides = said | (split_patients(rest, seed, fractions) if rest else {})
    return [sides[pair.patient] for pair in pairs]


def split_patients(
    patients: Iterable[str], seed: int, fractions: tuple[float, float, float]
) -> dict[str, str]:
    """Assign each patient to ``train``, ``val`` or ``test``.

    A hash of (seed, patient) gives each patient a place in [0, 1), and the fractions cut that line in three.
    So adding or removing patients moves nobody.

    One exception, for small sets: a side with a fraction above 0 that the hash left empty borrows the
    patient whose place lies nearest to it, from a side that can spare one. The loan ends when the hash gives
    that side a patient of its own.

    Args:
        patients: identifiers; repeated ones count once.
        seed: another seed is another split.
        fractions: shares of train, val and test; they add up to 1. A share of 0 leaves its side empty.

    Raises:
        UsageError: the fractions are no shares.
        DataError: there are fewer patients than sides.
    """
    if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6 or fractions[0] <= 0:
        expected = "three shares >= 0 that add up to 1, the first (train) above 0"
        raise UsageError(f"data.fractions={list(fractions)}: expected {expected}.")
    bounds = (0.0, fractions[0], fractions[0] + fractions[1], 1.0)
    wanted = [side for side, fraction in zip(SPLITS, fractions, strict=True) if fraction > 0]
    places = {patient: _place(seed, patient) for patient in sorted(set(patients))}
    if len(places) < len(wanted):
        raise DataError(
            f"{len(places)} patients can't fill the sides {', '.join(wanted)}: one each is needed. "
            "Set the share of a side to 0 (data.fractions=[1,0,0]), or give data.val_root, data.test_root."
        )
    sides = {patient: _side(place, bounds, wanted) for patient, place in places.items()}
    for side in wanted:
        if side not in sides.values():
            low, high = bounds[SPLITS.index(side)], bounds[SPLITS.index(side) + 1]
            held = list(sides.values())
            spare = [patient for patient in places if held.count(sides[patient]) > 1]
            sides[min(spare, key=lambda patient: max(low - places[patient], places[patient] - high))] = side
    return sides


def _place(seed: int, patient: str) -> float:
    """A place in [0, 1), the same on every machine and in every Python."""
    digest = hashlib.sha256(f"{seed}/{patient}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48  # 48 bits fit a float exactly


def _side(place: float, bounds: tuple[float, ...], wanted: list[str]) -> str:
    """The side whose interval holds the place; the last one takes what rounding leaves over."""
    inside = (side for side in wanted if place < bounds[SPLITS.index(side) + 1])
    return next(inside, wanted[-1])
