"""Where an error comes from: the autoencoder, the translation, and chance."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pti.metrics.calibration import crps_normal


@dataclass(frozen=True)
class ErrorComponent:
    """One line of the budget.

    Attributes:
        source: what the error comes from.
        mean_absolute: mm; NaN where only the share of the squared error is known.
        root_mean_square: mm.
        note: how it was found.
    """

    source: str
    mean_absolute: float
    root_mean_square: float
    note: str


@dataclass(frozen=True)
class HeightDistribution:
    """The known distribution of the true heights given the conditions: normal, (N,) mm each.

    Attributes:
        mean: expected height.
        std: standard deviation.
        height: the height that was drawn.
    """

    mean: np.ndarray
    std: np.ndarray
    height: np.ndarray

    def best_crps(self) -> float:
        """Mean CRPS of whoever knows the law and not the draw, mm: nobody does better for long."""
        return float(crps_normal(self.mean, self.std, self.height).mean())


def error_budget(
    error: np.ndarray, autoencoder: Mapping[str, np.ndarray], law: HeightDistribution | None
) -> list[ErrorComponent]:
    """Split the squared error of the bone height.

    Args:
        error: (N,) predicted - true, mm.
        autoencoder: ``target`` and ``condition`` -> (N,) mm: height after encoding and decoding the true
            image minus that before; empty where the model has no autoencoder.
        law: None where it isn't known.

    Returns:
        the whole, then its parts; what the translation adds is what the others leave over, as if they were
        independent of each other.
    """
    found = [_share("all of it", error, "predicted − true")]
    rest = _mean_square(error)
    if "target" in autoencoder:
        note = "the true target encoded and decoded: no model on these latents gets below it"
        found.append(_share("autoencoder, target", autoencoder["target"], note))
        rest -= _mean_square(autoencoder["target"])
    if law is not None:
        note = "the drawn height − its expectation: can't be seen in the condition"
        found.append(_share("chance", law.height - law.mean, note))
        rest -= _mean_square(law.height - law.mean)
    if len(found) > 1:
        note = "what the lines above leave of the mean square"
        found.append(ErrorComponent("translation", np.nan, float(np.sqrt(max(0.0, rest))), note))
    if "condition" in autoencoder:
        note = "the true condition encoded and decoded: what the translation doesn't see; no part of the sum"
        found.append(_share("autoencoder, condition", autoencoder["condition"], note))
    return found


def _share(source: str, error: np.ndarray, note: str) -> ErrorComponent:
    return ErrorComponent(source, float(np.nanmean(np.abs(error))), float(np.sqrt(_mean_square(error))), note)


def _mean_square(error: np.ndarray) -> float:
    return float(np.nanmean(error**2))
