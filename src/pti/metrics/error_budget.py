"""Error budget of the bone height: contributions of the autoencoder, the translation and chance."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pti.metrics.calibration import crps_normal


@dataclass(frozen=True)
class ErrorComponent:
    """One line of the budget.

    Attributes:
        source: Source of the error.
        mean_absolute: Mean absolute error, mm; NaN if only the contribution to the squared error is known.
        root_mean_square: Root mean square error, mm.
        note: How the component is computed.
    """

    source: str
    mean_absolute: float
    root_mean_square: float
    note: str


@dataclass(frozen=True)
class HeightDistribution:
    """The known normal distributions of the true heights given the conditions, (N,) mm each.

    Attributes:
        mean: Expected height.
        std: Standard deviation of the height.
        height: The true height, a draw from the distribution.
    """

    mean: np.ndarray
    std: np.ndarray
    height: np.ndarray

    @property
    def best_crps(self) -> float:
        """CRPS of an oracle that knows the true height distribution (mm): the lower bound for any model."""
        return float(crps_normal(self.mean, self.std, self.height).mean())


def error_budget(
    error: np.ndarray, autoencoder: Mapping[str, np.ndarray], heights: HeightDistribution | None
) -> list[ErrorComponent]:
    """Split the mean squared error of the bone height into components, as if these were independent.

    Args:
        error: (N,) predicted − true height, mm.
        autoencoder: ``target`` and ``condition`` -> (N,) mm: height after encoding and decoding the true
            image minus the height before; empty if the model has no autoencoder.
        heights: The distribution of the true heights; None = unknown.

    Returns:
        The total error, then its components; the translation's is the remainder.
    """
    budget = [_component("all of it", error, "predicted − true")]
    remainder = _mean_square(error)
    if "target" in autoencoder:
        note = "encode and decode the true target: the lower bound for any model on these latents"
        budget.append(_component("autoencoder, target", autoencoder["target"], note))
        remainder -= _mean_square(autoencoder["target"])
    if heights is not None:
        note = "true height − expected height: not visible in the condition"
        budget.append(_component("chance", heights.height - heights.mean, note))
        remainder -= _mean_square(heights.height - heights.mean)
    if len(budget) > 1:
        note = "total mean square − mean squares of the lines above"
        budget.append(ErrorComponent("translation", np.nan, float(np.sqrt(max(0.0, remainder))), note))
    if "condition" in autoencoder:
        note = (
            "encode and decode the true condition: what the latents hide from the translation; not in the sum"
        )
        budget.append(_component("autoencoder, condition", autoencoder["condition"], note))
    return budget


def _component(source: str, error: np.ndarray, note: str) -> ErrorComponent:
    return ErrorComponent(source, float(np.nanmean(np.abs(error))), float(np.sqrt(_mean_square(error))), note)


def _mean_square(error: np.ndarray) -> float:
    return float(np.nanmean(error**2))
