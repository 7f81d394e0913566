"""Means with intervals when slices of one patient resemble each other: the bootstrap over patients."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtr, stdtrit

RESAMPLES = 2000


@dataclass(frozen=True)
class Mean:
    """A mean and its interval.

    Attributes:
        value: mean over the slices that have a value.
        low, high: ends of the interval; NaN with fewer than two patients.
        count: slices with a value.
        patients: patients with a value.
    """

    value: float
    low: float
    high: float
    count: int
    patients: int


def bootstrap_mean(
    values: np.ndarray,
    patients: Sequence[str],
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Mean:
    """Mean over slices; percentile interval of a cluster bootstrap (Davison and Hinkley 1997, section 3.8).

    Whole patients are drawn with replacement, each with all its slices. Percentiles are expanded for few
    patients, as a t interval is against a normal one (Hesterberg 2015, section 3.4).

    The difference of two models on the same slices is a mean like any other: give ``values_a - values_b``.

    Args:
        values: (N,) one for each slice; NaN means that the slice has none. Infinite values make the mean
            infinite.
        patients: (N,) whose slice it is.
        level: of the interval.
        resamples: how many draws.
        seed: of the draws.
    """
    valid = ~np.isnan(values)
    kept = np.asarray(values, np.float64)[valid]
    clusters, owner = np.unique(np.asarray(patients, str)[valid], return_inverse=True)
    value = float(kept.mean()) if kept.size else np.nan
    if len(clusters) < 2 or not np.isfinite(value):
        return Mean(value, np.nan, np.nan, kept.size, len(clusters))
    sums, counts = np.bincount(owner, kept), np.bincount(owner)
    draws = _draws(len(clusters), resamples, seed)
    means = draws @ sums / (draws @ counts)
    count = len(clusters)
    tail = float(ndtr(np.sqrt(count / (count - 1)) * stdtrit(count - 1, (1 - level) / 2)))
    low, high = np.quantile(means, [tail, 1 - tail])
    return Mean(value, float(low), float(high), kept.size, len(clusters))


@lru_cache(maxsize=8)
def _draws(clusters: int, resamples: int, seed: int) -> np.ndarray:
    """(resamples, clusters): how often each patient is drawn."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples).astype(np.float64)
