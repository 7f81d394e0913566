"""Sizes of the edente bone guessed from the dente image's alone: what any model has to beat."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Columns = Mapping[str, np.ndarray]
"""Measure -> (N,) mm; NaN where a bone has none (a width above its crest)."""


@dataclass(frozen=True)
class Training:
    """Sizes that a baseline is fitted on: of the condition's bone, and of the target's on the same slices."""

    conditions: Columns
    targets: Columns


Baseline = Callable[[Training, Columns], dict[str, np.ndarray]]


def minus_mean_loss(training: Training, conditions: Columns) -> dict[str, np.ndarray]:
    """Each measure of the condition minus the mean difference (condition - target) in training.

    Returns:
        measure -> (N,) mm.
    """
    found = {}
    for measure, targets in training.targets.items():
        losses = training.conditions[measure] - targets
        losses = losses[~np.isnan(losses)]
        found[measure] = conditions[measure] - (losses.mean() if losses.size else np.nan)
    return found


def linear_regression(training: Training, conditions: Columns) -> dict[str, np.ndarray]:
    """Least squares of each target measure on all measures of the condition, with an intercept.

    A width above the condition's crest counts as 0. The standardised inputs get a small ridge (1e-3 of their
    variance), since the measures depend on each other.

    Returns:
        measure -> (N,) mm; NaN where fewer than two training slices have the measure.
    """
    raw, asked = (_matrix(columns) for columns in (training.conditions, conditions))
    centre, scale = raw.mean(axis=0), raw.std(axis=0)
    inputs, wanted = ((matrix - centre) / np.where(scale > 0, scale, 1) for matrix in (raw, asked))
    found = {}
    for measure, targets in training.targets.items():
        known = ~np.isnan(targets)
        if known.sum() < 2:
            found[measure] = np.full(len(asked), np.nan)
            continue
        x, y = inputs[known], targets[known]
        middle = x.mean(axis=0)
        x = x - middle
        ridge = 1e-3 * len(x) * np.eye(x.shape[1])
        weights = np.linalg.solve(x.T @ x + ridge, x.T @ (y - y.mean()))
        found[measure] = y.mean() + (wanted - middle) @ weights
    return found


def leave_one_patient_out(
    baseline: Baseline, conditions: Columns, targets: Columns, patients: Sequence[str]
) -> dict[str, np.ndarray]:
    """Each patient's sizes, predicted by a baseline that was fitted on the other patients.

    Args:
        baseline: what is fitted.
        conditions: measure -> (N,) mm.
        targets: measure -> (N,) mm.
        patients: (N,) whose they are; at least two different ones.

    Returns:
        measure -> (N,) mm.
    """
    owner = np.asarray(patients, str)
    found = {measure: np.full(len(owner), np.nan) for measure in targets}
    for patient in np.unique(owner):
        own = owner == patient
        training = Training(_rows(conditions, ~own), _rows(targets, ~own))
        for measure, values in baseline(training, _rows(conditions, own)).items():
            found[measure][own] = values
    return found


def _rows(columns: Columns, chosen: np.ndarray) -> dict[str, np.ndarray]:
    return {measure: values[chosen] for measure, values in columns.items()}


def _matrix(columns: Columns) -> np.ndarray:
    return np.nan_to_num(np.stack([columns[measure] for measure in sorted(columns)], axis=1))
