"""Means with confidence intervals for correlated slices: the bootstrap over patients."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtr, stdtrit

RESAMPLES = 2000


@dataclass(frozen=True)
class Mean:
    """A mean and its confidence interval.

    Attributes:
        value: Mean over the slices that have a value.
        low, high: Ends of the interval; NaN with fewer than two patients.
        count: Number of slices with a value.
        patients: Number of patients with a value.
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
    """Compute the mean over slices and the percentile interval of a cluster bootstrap over patients.

    Each resample draws whole patients with replacement, with all their slices (Davison and Hinkley 1997,
    section 3.8). The percentiles are expanded for few patients by the ratio of a t interval to a normal one
    (Hesterberg 2015, section 3.4).

    For the difference of two models on the same slices, pass ``values_a - values_b``.

    Args:
        values: (N,) a value for each slice; slices with NaN are left out. Infinite values make the mean
            infinite.
        patients: (N,) the patient of each slice.
        level: Confidence level.
        resamples: Number of resamples.
        seed: Seed of the resampling.
    """
    valid = ~np.isnan(values)
    kept = np.asarray(values, np.float64)[valid]
    clusters, owner = np.unique(np.asarray(patients, str)[valid], return_inverse=True)
    value, count = float(kept.mean()) if kept.size else np.nan, len(clusters)
    if count < 2 or not np.isfinite(value):
        return Mean(value, np.nan, np.nan, kept.size, count)
    sums, sizes = np.bincount(owner, kept), np.bincount(owner)
    draws = _draws(count, resamples, seed)
    means = draws @ sums / (draws @ sizes)
    tail = float(ndtr(np.sqrt(count / (count - 1)) * stdtrit(count - 1, (1 - level) / 2)))
    low, high = np.quantile(means, [tail, 1 - tail])
    return Mean(value, float(low), float(high), kept.size, count)


@lru_cache(maxsize=8)
def _draws(clusters: int, resamples: int, seed: int) -> np.ndarray:
    """(resamples, clusters): how often each resample draws each patient."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples).astype(np.float64)
