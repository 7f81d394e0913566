"""The figures of an evaluation as means with intervals, and methods against each other on the same slices."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pti.evaluate.scores import Evaluated, Scores
from pti.metrics.bone_agreement import LENGTHS, OVERLAP, SIMILARITY
from pti.metrics.bootstrap import Mean, bootstrap_mean
from pti.metrics.calibration import crps
from pti.metrics.texture import TEXTURE

HIGHER_IS_BETTER = {
    "psnr",
    "ssim",
    "ms_ssim",
    "bone_psnr",
    "bone_ssim",
    "bone_ms_ssim",
    "dice",
    "iou",
    TEXTURE[1],
}

ABSOLUTE = tuple(f"{name}_abs_error_mm" for name in LENGTHS)
SIGNED = tuple(f"{name}_error_mm" for name in LENGTHS)
CRPS = tuple(f"{name}_crps_mm" for name in LENGTHS)
SPREAD = ("height_spread_mm", "diversity")
FIGURES = (*ABSOLUTE, *SIGNED, *CRPS, *SPREAD, *OVERLAP, *SIMILARITY, *TEXTURE)


@dataclass(frozen=True)
class Difference:
    """One method minus another, on the slices where both have the figure.

    Attributes:
        method, other: their names.
        figure: what is compared.
        mean: of (method - other).
    """

    method: str
    other: str
    figure: str
    mean: Mean

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``undecided``: whether the interval lies on one side of 0."""
        if not (self.mean.low > 0 or self.mean.high < 0):
            return "undecided"
        return "better" if (self.mean.low > 0) == (self.figure in HIGHER_IS_BETTER) else "worse"


def columns_of(scores: Scores) -> dict[str, np.ndarray]:
    """Every figure of a method as (N,): those of `Scores.per_slice`, and the CRPS of each length, mm."""
    scored = {f"{name}_crps_mm": crps(scores.predicted[name], scores.true[name]) for name in LENGTHS}
    return {**scores.per_slice(), **scored}


def summarize(scores: Scores, seed: int = 0) -> dict[str, Mean]:
    """:data:`FIGURES` that the method has, as means over slices with intervals over patients."""
    columns = columns_of(scores)
    return {
        name: bootstrap_mean(columns[name], scores.patients, seed=seed) for name in FIGURES if name in columns
    }


def differences(evaluated: Evaluated, method: str, figures: Sequence[str], seed: int = 0) -> list[Difference]:
    """A method against each of the others."""
    own = columns_of(evaluated.methods[method])
    found = []
    for other, scores in evaluated.methods.items():
        if other == method:
            continue
        columns = columns_of(scores)
        for figure in figures:
            if figure in own and figure in columns:
                with np.errstate(invalid="ignore"):  # inf - inf of equal images is NaN: left out
                    values = own[figure] - columns[figure]
                found.append(
                    Difference(method, other, figure, bootstrap_mean(values, scores.patients, seed=seed))
                )
    return found
