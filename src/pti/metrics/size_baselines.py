"""Baselines that predict sizes of the edente bone from sizes of the dente bone alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.preprocessing import StandardScaler

Columns = Mapping[str, np.ndarray]
"""Measure -> (N,) mm; NaN where a bone doesn't have the measure (a width above its crest)."""

RIDGE = 1e-3
"""Ridge penalty of each slice on standardised inputs: the measures are nearly collinear."""


@dataclass(frozen=True)
class TrainingSizes:
    """Sizes to fit a baseline on: those of the condition's bone and of the target's, on the same slices."""

    conditions: Columns
    targets: Columns


SizeBaseline = Callable[[TrainingSizes, Columns], dict[str, np.ndarray]]


def minus_mean_loss(training: TrainingSizes, conditions: Columns) -> dict[str, np.ndarray]:
    """Subtract the mean training difference (condition − target) from each measure of the condition.

    Returns:
        Measure -> (N,) mm.
    """
    predicted = {}
    for measure, targets in training.targets.items():
        losses = training.conditions[measure] - targets
        losses = losses[~np.isnan(losses)]
        predicted[measure] = conditions[measure] - (losses.mean() if losses.size else np.nan)
    return predicted


def linear_regression(training: TrainingSizes, conditions: Columns) -> dict[str, np.ndarray]:
    """Regress each target measure on all measures of the condition, with an intercept.

    A width above the condition's crest counts as 0. The inputs are standardised, the weights get a ridge
    penalty of :data:`RIDGE`.

    Returns:
        Measure -> (N,) mm; NaN if fewer than two training slices have the measure.
    """
    scaler = StandardScaler()
    x, asked = scaler.fit_transform(_matrix(training.conditions)), scaler.transform(_matrix(conditions))
    predicted = {}
    for measure, targets in training.targets.items():
        known = ~np.isnan(targets)
        predicted[measure] = np.full(len(asked), np.nan)
        if known.sum() > 1:
            ridge = Ridge(RIDGE * known.sum()).fit(x[known], targets[known])
            predicted[measure] = ridge.predict(asked)
    return predicted


def leave_one_patient_out(
    baseline: SizeBaseline, conditions: Columns, targets: Columns, patients: Sequence[str]
) -> dict[str, np.ndarray]:
    """Predict each patient's sizes with a baseline fitted on the other patients.

    Args:
        baseline: The baseline to fit.
        conditions: Measure -> (N,) mm.
        targets: Measure -> (N,) mm.
        patients: (N,) the patient of each slice; at least two different ones.

    Returns:
        Measure -> (N,) mm.
    """
    predicted = {measure: np.full(len(patients), np.nan) for measure in targets}
    for others, own in LeaveOneGroupOut().split(patients, groups=np.asarray(patients, str)):
        training = TrainingSizes(_rows(conditions, others), _rows(targets, others))
        for measure, values in baseline(training, _rows(conditions, own)).items():
            predicted[measure][own] = values
    return predicted


def _rows(columns: Columns, chosen: np.ndarray) -> dict[str, np.ndarray]:
    return {measure: values[chosen] for measure, values in columns.items()}


def _matrix(columns: Columns) -> np.ndarray:
    return np.nan_to_num(np.stack([columns[measure] for measure in sorted(columns)], axis=1))
