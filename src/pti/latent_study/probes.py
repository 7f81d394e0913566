"""Linear probes of bone attributes in the latents, and the use of each latent channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pti.latent_study.latents import Latents
from pti.latent_study.projection import PrincipalComponents

ACTIVE_VARIANCE = 0.01
"""Variance over images above which a channel counts as used (Burda et al. 2016)."""

_MAX_FOLDS = 5
_STRENGTHS = np.logspace(-2, 6, 9)  # ridge penalties; chosen within each fold


@dataclass(frozen=True)
class LinearProbe:
    """Linear predictability of a bone attribute from the latents of one group.

    Attributes:
        group: Group of the images.
        attribute: One of `pti.latent_study.options.ATTRIBUTES`.
        images: Number of images with this attribute.
        r2: R² on patients that the probe wasn't fitted to; 1 is exact, 0 no better than the mean.
        mean_error: Mean absolute error on these patients, in the attribute's unit.
        component: Principal component with the strongest rank correlation with the attribute, from 1.
        rank_correlation: Spearman correlation of that component with the attribute, −1 to 1.
    """

    group: str
    attribute: str
    images: int
    r2: float
    mean_error: float
    component: int
    rank_correlation: float


@dataclass(frozen=True)
class Channel:
    """Statistics of one latent channel over all images.

    Attributes:
        channel: Index, from 0.
        kl: Mean KL divergence per image, nats.
        variance: Variance of the posterior mean over images, averaged over positions.
        posterior_std: Mean posterior standard deviation; 1 is the prior's, which carries no information.
        used: True if the variance exceeds `ACTIVE_VARIANCE`.
    """

    channel: int
    kl: float
    variance: float
    posterior_std: float
    used: bool


def probe_attributes(latents: Latents, components: PrincipalComponents) -> list[LinearProbe]:
    """Probe every attribute in every group, except for constant ones and those of a single patient."""
    probes = []
    for group in latents.groups:
        for attribute, values in latents.attributes.items():
            members = np.flatnonzero((latents.group == group) & np.isfinite(values))
            patients = latents.patient[members]
            if len(np.unique(patients)) >= 2 and np.ptp(values[members]) > 0:
                scores = components.scores[members]
                probes.append(_probe(group, attribute, scores, values[members], patients))
    return probes


def channels(latents: Latents) -> list[Channel]:
    """Compute the statistics of each channel."""
    variance = latents.mean.var(0, dtype=np.float64).mean((1, 2))
    return [
        Channel(index, float(kl), float(variance[index]), float(std), bool(variance[index] > ACTIVE_VARIANCE))
        for index, (kl, std) in enumerate(zip(latents.kl.mean(0), latents.std.mean(0), strict=True))
    ]


def _probe(
    group: str, attribute: str, scores: np.ndarray, values: np.ndarray, patients: np.ndarray
) -> LinearProbe:
    from scipy.stats import spearmanr

    errors = values - _predict_other_patients(scores, values, patients)
    r2 = 1 - np.square(errors).sum() / np.square(values - values.mean()).sum()
    ranks = [float(spearmanr(column, values)[0]) if np.ptp(column) > 0 else 0.0 for column in scores.T]  # pyright: ignore
    best = int(np.argmax(np.abs(ranks)))
    error = float(np.abs(errors).mean())
    return LinearProbe(group, attribute, len(values), float(r2), error, best + 1, ranks[best])


def _predict_other_patients(scores: np.ndarray, values: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Predict each value by a ridge regression that was fitted without the images of its patient.

    The penalty is also chosen by patients: chosen by images, it would favour what neighbouring slices share.

    Args:
        scores: (N, K) inputs.
        values: (N,) values to predict.
        patients: (N,) labels.

    Returns:
        (N,) predictions.
    """
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GroupKFold, cross_val_predict

    def folds(labels: np.ndarray) -> GroupKFold:
        return GroupKFold(min(_MAX_FOLDS, len(np.unique(labels))))

    # One column of targets for each penalty.
    ridge = Ridge(alpha=_STRENGTHS, solver="cholesky")  # pyright: ignore[reportArgumentType]  (declared as float)
    scores = scores.astype(np.float64)
    targets = np.tile(values[:, None], len(_STRENGTHS))
    predictions = np.empty(len(values))
    for train, test in folds(patients).split(scores, groups=patients):
        x, y, labels = scores[train], targets[train], patients[train]
        best = -1  # the strongest penalty, where a single patient leaves no choice
        if len(np.unique(labels)) > 1:
            validated = cross_val_predict(ridge, x, y, groups=labels, cv=folds(labels))
            best = np.square(validated - y).sum(0).argmin()
        predictions[test] = ridge.fit(x, y).predict(scores[test])[:, best]
    return predictions
