"""Whether the spread of samples tells the truth: CRPS, coverage of intervals, ranks, conformal correction."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import erf

from pti.metrics.bootstrap import Mean, bootstrap_mean

LEVELS = (0.5, 0.8, 0.9)

INTERVAL = ("interval_level", "height_low_mm", "height_high_mm")
"""What the fields of a height's :class:`ValidInterval` are called among an image's figures."""


@dataclass(frozen=True)
class Intervals:
    """How the intervals of one level did.

    Attributes:
        measure: what was predicted.
        level: the share of truths that the interval promises to hold.
        coverage: the share that it held.
        width: its mean width, mm.
        correction: added at both ends by the conformal correction, mm; infinite with too few patients to fit
            it on, None when there was nothing to fit it on.
        corrected_coverage, corrected_width: of the corrected interval; None where there is none, or an
            infinite one.
    """

    measure: str
    level: float
    coverage: Mean
    width: float
    correction: float | None = None
    corrected_coverage: Mean | None = None
    corrected_width: float | None = None


@dataclass(frozen=True)
class ValidInterval:
    """An interval that holds its level's share of new patients' truths, see `conformal_correction`."""

    level: float
    low: float
    high: float


def crps(samples: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score of each slice, in the unit of the values; smaller is better.

    mean |x_i - y| - ½ mean over i ≠ j of |x_i - x_j|: the fair estimator (Ferro 2014), whose expectation does
    not depend on the number of samples. For one sample it is the absolute error.

    Args:
        samples: (N, K).
        truth: (N,); NaN gives NaN.

    Returns:
        (N,).
    """
    count = samples.shape[1]
    distance = np.abs(samples - truth[:, None]).mean(axis=1)
    if count == 1:
        return distance
    # Sum over all pairs of |x_i - x_j| from the sorted values.
    ranks = 2 * np.arange(count) - count + 1
    pairs = (np.sort(samples, axis=1) * ranks).sum(axis=1)
    return distance - pairs / (count * (count - 1))


def crps_normal(mean: np.ndarray, std: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """CRPS of a normal distribution (Gneiting and Raftery 2007, equation 21), (N,)."""
    z = (truth - mean) / std
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    return std * (z * erf(z / np.sqrt(2)) + 2 * density - 1 / np.sqrt(np.pi))


def central_interval(
    samples: np.ndarray, level: float, correction: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """The interval between the samples' quantiles (1 ± level) / 2, moved outwards by ``correction``.

    Quantiles at rank p · (K + 1), so that a truth drawn like the samples falls below the p-quantile with
    probability p; beyond the outermost samples these end it, so that K samples hold at most
    (K - 1) / (K + 1) of such truths.

    Args:
        samples: (N, K).
        level: between 0 and 1.
        correction: in the unit of the samples; a negative one never turns the interval round.

    Returns:
        lower and upper ends, (N,) each.
    """
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2], axis=1, method="weibull")
    middle = (low + high) / 2
    return np.minimum(low - correction, middle), np.maximum(high + correction, middle)


def valid_interval(samples: np.ndarray, corrections: Mapping[float, float]) -> ValidInterval | None:
    """The corrected interval of one slice, of the highest level that has a finite correction.

    Args:
        samples: (K,).
        corrections: level -> correction, in the unit of the samples.

    Returns:
        None where no correction is finite.
    """
    finite = [level for level, correction in corrections.items() if np.isfinite(correction)]
    if not finite:
        return None
    level = max(finite)
    low, high = central_interval(np.asarray(samples)[None], level, corrections[level])
    return ValidInterval(level, float(low[0]), float(high[0]))


def rank_histogram(samples: np.ndarray, truth: np.ndarray, seed: int = 0) -> np.ndarray:
    """How often the truth takes each rank among its samples, (K + 1,); flat when samples are calibrated.

    Equal values take random places among each other. Slices without a truth don't count.

    Args:
        samples: (N, K).
        truth: (N,).
        seed: of the random places.
    """
    rng = np.random.default_rng(seed)
    known = ~np.isnan(truth) & ~np.isnan(samples).any(axis=1)
    values, targets = samples[known], truth[known, None]
    # Lengths are whole pixels times a size, the same up to rounding.
    equal = np.isclose(values, targets, rtol=0, atol=1e-9)
    below = ((values < targets) & ~equal).sum(axis=1)
    ranks = below + rng.integers(0, equal.sum(axis=1) + 1)
    return np.bincount(ranks, minlength=samples.shape[1] + 1)


def conformal_correction(
    samples: np.ndarray, truth: np.ndarray, patients: Sequence[str], level: float
) -> float:
    """How far to move the ends of :func:`central_interval` outwards so that it holds what it promises.

    Split-conformal (conformalised quantile regression, Romano et al. 2019) with whole patients as the
    exchangeable units (Lee, Barber and Willett 2023): each slice's score is its distance outside the interval
    (negative inside); the correction is the level-quantile of the scores, each patient weighing 1 / (P + 1)
    and infinity as well. It promises that a slice of a new patient lies in the corrected interval with at
    least this probability, whatever the model.

    Args:
        samples: (N, K) of patients that neither training nor the test has seen.
        truth: (N,).
        patients: (N,) whose they are.
        level: between 0 and 1.

    Returns:
        in the unit of the samples; infinite with fewer than :func:`patients_needed`.
    """
    low, high = central_interval(samples, level)
    scores = np.maximum(low - truth, truth - high)
    known = ~np.isnan(scores)
    scores, owner = scores[known], np.asarray(patients, str)[known]
    _, place, counts = np.unique(owner, return_inverse=True, return_counts=True)
    weights = 1 / ((len(counts) + 1) * counts[place])
    order = np.argsort(scores)
    reached = np.cumsum(weights[order]) >= level - 1e-12
    return float(scores[order][reached.argmax()]) if reached.any() else float("inf")


def patients_needed(level: float) -> int:
    """The fewest patients to calibrate on for a finite correction, level / (1 - level): 9 for 90 %.

    The truth of one more patient is as likely to lie beyond all of theirs as any of them, once in P + 1.
    """
    return math.ceil(level / (1 - level) - 1e-9)


def check_intervals(
    measure: str,
    samples: np.ndarray,
    truth: np.ndarray,
    patients: Sequence[str],
    corrections: Mapping[float, float] | None = None,
) -> list[Intervals]:
    """Coverage and width for each of :data:`LEVELS`.

    Args:
        measure: its name.
        samples: (N, K) mm.
        truth: (N,) mm.
        patients: (N,) whose they are.
        corrections: level -> correction, mm; None = there are none.
    """
    known = ~np.isnan(truth) & ~np.isnan(samples).any(axis=1)
    found = []
    for level in LEVELS:
        coverage, width = _held(samples, truth, patients, level, 0.0, known)
        correction = None if corrections is None else corrections.get(level)
        if correction is None or not np.isfinite(correction):
            found.append(Intervals(measure, level, coverage, width, correction))
            continue
        corrected = _held(samples, truth, patients, level, correction, known)
        found.append(Intervals(measure, level, coverage, width, correction, *corrected))
    return found


def _held(
    samples: np.ndarray,
    truth: np.ndarray,
    patients: Sequence[str],
    level: float,
    correction: float,
    known: np.ndarray,
) -> tuple[Mean, float]:
    low, high = central_interval(samples, level, correction)
    # An end that coincides with the truth holds it, also when both were rounded differently.
    inside = (low <= truth + 1e-9) & (truth <= high + 1e-9)
    widths = (high - low)[known]
    share = bootstrap_mean(np.where(known, inside, np.nan), patients)
    return share, float(widths.mean()) if widths.size else float("nan")
