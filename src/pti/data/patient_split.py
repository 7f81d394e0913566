"""Assignment of patients to splits.

A patient is in exactly one split, chosen independently of all other patients.
"""

import hashlib
from collections.abc import Collection, Iterable, Sequence

from pti.common.errors import DataError, UsageError
from pti.common.files import to_bytes
from pti.data.layouts import SPLITS, Pair, abbreviate

Fractions = tuple[float, float, float]
"""Shares of the patients for train, val and test."""

Fold = tuple[int, int]
"""Number k of a fold, from 0, and the number K of folds of a cross-validation."""


def splits_of(pairs: Sequence[Pair], seed: int, fractions: Fractions, fold: Fold | None = None) -> list[str]:
    """Return the split of each pair: the one that the data set assigns, otherwise that of `split_patients`.

    Raises:
        UsageError: The fractions are not valid shares.
        DataError: A name lacks a patient, a patient is assigned to two splits, or there are fewer patients
            than splits.
    """
    if nameless := [pair.name for pair in pairs if not pair.patient]:
        fix = "Set data.layout.patient_pattern to match the names."
        raise DataError(f"{abbreviate(nameless)}: no patient can be read from these names. {fix}")
    assigned: dict[str, str] = {}
    for pair in pairs:
        if pair.split and assigned.setdefault(pair.patient, pair.split) != pair.split:
            both = f"{assigned[pair.patient]} and {pair.split}"
            fix = "Give all images of a patient the same split."
            raise DataError(f"{pair.patient}: the table assigns this patient to the splits {both}. {fix}")
    others = {pair.patient for pair in pairs} - assigned.keys()
    splits = assigned | (split_patients(others, seed, fractions, fold) if others else {})
    return [splits[pair.patient] for pair in pairs]


def split_patients(
    patients: Iterable[str], seed: int, fractions: Fractions, fold: Fold | None = None
) -> dict[str, str]:
    """Assign each patient to ``train``, ``val`` or ``test``.

    A hash of (seed, patient) places each patient in [0, 1), and the fractions cut this interval in three.
    Adding or removing patients therefore never moves another patient.

    Fold k of K moves all places by k / K, around the interval. With the shares of `fractions_of_root`, the
    test splits of the K folds are then disjoint and contain every patient once, and the validation split of a
    fold is the test split of the next one.

    There is one exception, for small sets: a split with a positive fraction that the hash leaves empty takes
    the patient placed nearest to its interval, from a split that has at least two. It gives this patient back
    as soon as the hash places another patient in its interval.

    Args:
        patients: Identifiers; repeated ones count once.
        seed: Seed of the hash; another seed gives another split.
        fractions: Shares that add up to 1. A share of 0 leaves its split empty.
        fold: Fold of a cross-validation; None = the first.

    Raises:
        UsageError: The fractions are not valid shares.
        DataError: There are fewer patients than splits.
    """
    if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6 or fractions[0] <= 0:
        expected = "three shares >= 0 that add up to 1, the first (train) above 0"
        raise UsageError(f"data.fractions={list(fractions)}: expected {expected}.")
    edges = (0.0, fractions[0], fractions[0] + fractions[1], 1.0)
    intervals = {split: edges[i : i + 2] for i, split in enumerate(SPLITS) if fractions[i] > 0}
    turn = 0.0 if fold is None else fold[0] / fold[1]
    places = {patient: (_place(seed, patient) + turn) % 1.0 for patient in sorted(set(patients))}
    if len(places) < len(intervals):
        raise DataError(
            f"too few patients ({len(places)}) for the splits {', '.join(intervals)}: each needs one. "
            "Set the share of a split to 0 (data.fractions=[1,0,0]), or set data.val_root and data.test_root."
        )
    last = list(intervals)[-1]  # also takes the places that rounding leaves beyond the last edge
    splits = {
        patient: next((split for split, (_, end) in intervals.items() if place < end), last)
        for patient, place in places.items()
    }
    for split, (start, end) in intervals.items():
        if split not in splits.values():
            counts = list(splits.values())
            spare = [patient for patient in places if counts.count(splits[patient]) > 1]
            nearest = min(spare, key=lambda patient: max(start - places[patient], places[patient] - end))
            splits[nearest] = split
    return splits


def fold_of(folds: int | None, fold: int) -> Fold | None:
    """Return the fold that the keys ``data.folds`` and ``data.fold`` choose; None without folds.

    Raises:
        UsageError: A number is out of range.
    """
    if folds is None:
        return None
    if folds < 3:
        raise UsageError(f"data.folds={folds}: expected 3 or more, one for each of train, val and test.")
    if not 0 <= fold < folds:
        raise UsageError(f"data.fold={fold}: expected 0 to {folds - 1}, as data.folds={folds}.")
    return fold, folds


def fractions_of_root(
    fractions: Fractions, extra_roots: Collection[str], fold: Fold | None = None
) -> Fractions:
    """Return the fractions for a root from which some splits may take no patients.

    Args:
        fractions: Shares of train, val and test.
        extra_roots: Splits with a separate root. Their shares go to the other splits, in proportion.
        fold: Fold of a cross-validation with K folds: val and test get 1 / K each, train the rest.

    Raises:
        UsageError: There are folds and separate roots.
    """
    if fold is not None:
        if extra_roots:
            keys = " and ".join(f"data.{split}_root" for split in extra_roots)
            raise UsageError(
                f"data.folds={fold[1]}: folds divide data.root alone. Remove {keys} or data.folds."
            )
        return 1 - 2 / fold[1], 1 / fold[1], 1 / fold[1]
    if not extra_roots:
        return fractions
    kept = [0.0 if split in extra_roots else share for split, share in zip(SPLITS, fractions, strict=True)]
    train, val, test = (share / (sum(kept) or 1.0) for share in kept)
    return train, val, test


def _place(seed: int, patient: str) -> float:
    """Hash to [0, 1); equal on all machines and Python versions."""
    digest = hashlib.sha256(to_bytes(f"{seed}/{patient}")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48  # a float represents 48 bits exactly
