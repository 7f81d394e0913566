"""Summaries of an evaluation: means with intervals over patients, and differences between methods."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pti.evaluate.scores import Measurements, Scores
from pti.metrics.bone_agreement import CREST, LENGTHS, OVERLAP, SIMILARITY
from pti.metrics.bootstrap import Mean, bootstrap_mean
from pti.metrics.calibration import crps
from pti.metrics.changed_region import REGION_METRICS

HIGHER_IS_BETTER = {
    *(name for name in (*SIMILARITY, *REGION_METRICS) if name.endswith(("psnr", "ssim", "correlation"))),
    *("dice", "iou"),
}

ABSOLUTE = tuple(f"{name}_abs_error_mm" for name in LENGTHS)
SIGNED = tuple(f"{name}_error_mm" for name in LENGTHS)
CRPS = tuple(f"{name}_crps_mm" for name in LENGTHS)
SPREAD = ("height_spread_mm", "diversity")
METRICS = (*ABSOLUTE, *SIGNED, *CRPS, *SPREAD, *OVERLAP, *CREST, *SIMILARITY, *REGION_METRICS)


@dataclass(frozen=True)
class Difference:
    """One method minus another, on the slices where both have the metric.

    Attributes:
        method, other: Names of the methods.
        metric: Name of the compared metric.
        mean: Mean of (method − other).
    """

    method: str
    other: str
    metric: str
    mean: Mean

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` if the interval excludes 0, else ``undecided``."""
        if not (self.mean.low > 0 or self.mean.high < 0):
            return "undecided"
        return "better" if (self.mean.low > 0) == (self.metric in HIGHER_IS_BETTER) else "worse"


def columns_of(scores: Scores) -> dict[str, np.ndarray]:
    """Return all values of a method as (N,): those of `Scores.per_slice`, and the CRPS of each length, mm."""
    scored = {
        f"{name}_crps_mm": crps(scores.predicted[name], scores.true[name], scores.independent)
        for name in LENGTHS
    }
    return {**scores.per_slice(), **scored}


def summarize(scores: Scores, seed: int = 0) -> dict[str, Mean]:
    """Return the means of the method's :data:`METRICS` over the slices, with intervals over patients."""
    columns = columns_of(scores)
    return {
        name: bootstrap_mean(columns[name], scores.patients, seed=seed) for name in METRICS if name in columns
    }


def differences(
    measurements: Measurements, method: str, metrics: Sequence[str], seed: int = 0
) -> list[Difference]:
    """Compare a method with each of the others."""
    columns = {name: columns_of(scores) for name, scores in measurements.methods.items()}
    rows = []
    for other in columns:
        for metric in metrics if other != method else ():
            if metric in columns[method] and metric in columns[other]:
                with np.errstate(invalid="ignore"):  # inf - inf of equal images is NaN, which is left out
                    values = columns[method][metric] - columns[other][metric]
                mean = bootstrap_mean(values, measurements.patients, seed=seed)
                rows.append(Difference(method, other, metric, mean))
    return rows
