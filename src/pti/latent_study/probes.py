"""Which latent directions follow the bone, and which channels carry anything."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pti.latent_study.latents import Latents
from pti.latent_study.projection import Components

ACTIVE = 0.01
"""Variance over images above which a channel counts as used (Burda et al. 2016)."""

_FOLDS = 5
_STRENGTHS = np.logspace(-2, 6, 9)  # of the ridge regression; chosen within each fold


@dataclass(frozen=True)
class LinearProbe:
    """How well the latents of one group tell an attribute of the bone.

    Attributes:
        group: whose images.
        attribute: one of `pti.latent_study.names.ATTRIBUTES`.
        images: that have it.
        r2: of a linear probe on patients that it wasn't fitted to; 1 exact, 0 no better than the mean.
        mean_error: of that probe, in the attribute's unit.
        component: the principal component that follows it most closely, from 1.
        rank_correlation: of that component with the attribute (Spearman), −1 to 1.
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
    """One latent channel over all images.

    Attributes:
        channel: from 0.
        kl: nats an image.
        variance: of the posterior's mean over images, averaged over positions.
        posterior_std: mean standard deviation of the posterior; 1 = the prior's, nothing is told.
        used: whether the variance exceeds `ACTIVE`.
    """

    channel: int
    kl: float
    variance: float
    posterior_std: float
    used: bool


def probe_attributes(latents: Latents, components: Components) -> list[LinearProbe]:
    """LinearProbe every attribute in every group; those that hardly vary, or of too few patients, are left out."""
    found = []
    for group in latents.groups:
        for attribute, values in latents.attributes.items():
            members = np.flatnonzero((latents.group == group) & np.isfinite(values))
            patients = latents.patient[members]
            if len(np.unique(patients)) >= 2 and np.ptp(values[members]) > 0:
                scores = components.scores[members]
                found.append(_probe(group, attribute, scores, values[members], patients))
    return found


def channels(latents: Latents) -> list[Channel]:
    """The health of each channel."""
    variance = latents.mean.var(0, dtype=np.float64).mean((1, 2))
    return [
        Channel(index, float(kl), float(variance[index]), float(std), bool(variance[index] > ACTIVE))
        for index, (kl, std) in enumerate(zip(latents.kl.mean(0), latents.std.mean(0), strict=True))
    ]


def _probe(
    group: str, attribute: str, scores: np.ndarray, values: np.ndarray, patients: np.ndarray
) -> LinearProbe:
    from scipy.stats import spearmanr

    missed = values - _predict_other_patients(scores, values, patients)
    r2 = 1 - np.square(missed).sum() / np.square(values - values.mean()).sum()
    varying = [column if np.ptp(column) > 0 else None for column in scores.T]
    ranks = [0.0 if column is None else float(spearmanr(column, values)[0]) for column in varying]  # pyright: ignore
    best = int(np.argmax(np.abs(ranks)))
    error = float(np.abs(missed).mean())
    return LinearProbe(group, attribute, len(values), float(r2), error, best + 1, ranks[best])


def _predict_other_patients(scores: np.ndarray, values: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """(N,) predictions of ridge regressions, each fitted without the patients that it predicts.

    Its strength is chosen by patients too: chosen by images it would trust what neighbouring slices share.
    """
    predicted = np.empty(len(values))
    for fitted, left_out in _folds(patients):
        chosen = len(_STRENGTHS) - 1
        if inner := _folds(patients[fitted]):
            x, y = scores[fitted], values[fitted]
            errors = [
                np.square(y[test, None] - _ridge(x[train], y[train], x[test])).sum(0) for train, test in inner
            ]
            chosen = int(np.argmin(np.sum(errors, 0)))
        predicted[left_out] = _ridge(scores[fitted], values[fitted], scores[left_out])[:, chosen]
    return predicted


def _ridge(scores: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(M, strengths) predictions for scores (M, K), after fitting scores (N, K) to values (N,)."""
    centre = scores.mean(0, dtype=np.float64)
    x, y = scores - centre, values - values.mean()
    sizes, directions = np.linalg.eigh(x.T @ x)
    slopes = directions @ ((directions.T @ (x.T @ y))[:, None] / (sizes[:, None] + _STRENGTHS))
    return values.mean() + (wanted - centre) @ slopes


def _folds(patients: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Indices (for fitting, left out), no patient on both sides; none for a single patient."""
    from sklearn.model_selection import GroupKFold

    count = min(_FOLDS, len(np.unique(patients)))
    return list(GroupKFold(count).split(patients, groups=patients)) if count > 1 else []
