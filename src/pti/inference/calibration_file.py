"""``calibration.json``: read the conformal corrections that an evaluation fitted on validation patients."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pti.common.errors import DataError
from pti.metrics.calibration import LEVELS, patients_needed

MEASURES = ("height", "width_quarter", "width_half", "width_three_quarters")
"""The lengths that get intervals."""

Corrections = Mapping[str, Mapping[float, float]]
"""Measure -> level -> correction, mm; infinite if there were too few patients."""


def missing_calibration(corrections: Corrections, origin: str) -> list[str]:
    """Explain which intervals have no finite correction, a note for each level; empty if all have one.

    Args:
        corrections: Corrections in mm.
        origin: Text that names the patients of the fit.
    """
    notes = []
    for level in LEVELS:
        lacking = [name for name, levels in corrections.items() if math.isinf(levels.get(level, 0.0))]
        if lacking:
            of = "" if len(lacking) == len(corrections) else f" of {', '.join(lacking)}"
            notes.append(
                f"there is no corrected {level * 100:.0f} % interval{of}: it needs at least "
                f"{patients_needed(level)} validation patients, because a correction fitted on P patients "
                f"guarantees a coverage of at most P / (P + 1); it was fitted on the {origin}"
            )
    return notes


def read_calibration(
    path: Path, samples: int, checkpoint: str | None = None
) -> tuple[dict[str, dict[float, float]], str]:
    """Read the corrections of a file, and the text that names the patients they were fitted on.

    Args:
        path: A ``calibration.json``.
        samples: Samples per slice now; a correction is only valid for the number it was fitted on.
        checkpoint: SHA-256 of the checkpoint that made the samples; None = unknown.

    Raises:
        DataError: The file isn't a calibration, or was fitted on another number of samples or another model.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        corrections = {
            measure: {
                float(level): math.inf if value is None else float(value)
                for level, value in content["corrections_mm"][measure].items()
            }
            for measure in MEASURES
        }
        fitted_samples, model = content["samples"], content["checkpoint"]
        origin = f"{content['found_on']} ({content['patients']} patients)"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path}: expected a calibration.json written by pti evaluate.") from None
    if fitted_samples != samples:
        raise DataError(
            f"{path}: fitted on {fitted_samples} samples per slice, but there are {samples} now. Use "
            f"{fitted_samples} samples, or write a new calibration.json with pti evaluate."
        )
    if checkpoint is not None and checkpoint != model:
        raise DataError(
            f"{path}: fitted with the checkpoint of SHA-256 {model[:12]}… ({content['method']}), but this "
            f"one has {checkpoint[:12]}…. Write a calibration.json for it with pti evaluate."
        )
    return corrections, origin


@dataclass(frozen=True)
class HeightCalibration:
    """Calibration of the intervals of the bone height.

    Attributes:
        corrections: Level -> mm; infinite if there were too few patients.
        origin: Text that names the patients of the fit.
        notes: Notes for the user.
    """

    corrections: Mapping[float, float]
    origin: str
    notes: Sequence[str]


def read_height_calibration(path: Path, samples: int, checkpoint: str) -> HeightCalibration:
    """Read the corrections of the height; arguments and errors as `read_calibration`."""
    corrections, origin = read_calibration(path, samples, checkpoint)
    heights = corrections["height"]
    return HeightCalibration(heights, origin, missing_calibration({"height": heights}, origin))
