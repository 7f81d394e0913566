"""``calibration.json``: the conformal corrections that one evaluation found, for use by others."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pti.common.errors import DataError
from pti.evaluate.scores import Scores
from pti.metrics.calibration import LEVELS, conformal_correction, patients_needed

MEASURES = ("height", "width_quarter", "width_half", "width_three_quarters")
"""The measures that get intervals."""

Corrections = Mapping[str, Mapping[float, float]]
"""Measure -> level -> correction, mm; infinite where there were too few patients."""


def fit_corrections(scores: Scores) -> dict[str, dict[float, float]]:
    """The corrections that make a method's intervals valid, found on these slices."""
    return {
        measure: {
            level: conformal_correction(
                scores.predicted[measure], scores.true[measure], scores.patients, level
            )
            for level in LEVELS
        }
        for measure in MEASURES
    }


def missing_calibration(corrections: Corrections, origin: str) -> list[str]:
    """Why intervals have no finite correction, in words; empty where all have one.

    Args:
        corrections: mm.
        origin: what they were found on, in words.
    """
    notes = []
    for level in LEVELS:
        lacking = [name for name, levels in corrections.items() if math.isinf(levels.get(level, 0.0))]
        if lacking:
            of = "" if len(lacking) == len(corrections) else f" of {', '.join(lacking)}"
            notes.append(
                f"there is no corrected {level * 100:.0f} % interval{of}: it takes {patients_needed(level)} "
                "validation patients at least, since what is found on P patients can't promise more than "
                f"P / (P + 1); found on the {origin}"
            )
    return notes


def calibration_text(scores: Scores, corrections: Corrections, origin: str, checkpoint: str) -> str:
    """The file's text.

    Args:
        scores: that the corrections were found on.
        corrections: mm.
        origin: which patients these are, in words.
        checkpoint: SHA-256 of the model's file.
    """
    content = {
        "method": scores.method,
        "checkpoint": checkpoint,
        "samples": scores.samples,
        "found_on": origin,
        "slices": len(scores.names),
        "patients": len(set(scores.patients)),
        "corrections_mm": {
            measure: {str(level): value if math.isfinite(value) else None for level, value in levels.items()}
            for measure, levels in corrections.items()
        },
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def read_calibration(
    path: Path, samples: int, checkpoint: str | None = None
) -> tuple[dict[str, dict[float, float]], str]:
    """The corrections of a file, and in words where they come from.

    Args:
        path: a ``calibration.json``.
        samples: of each slice now; a correction is only valid for intervals from as many.
        checkpoint: SHA-256 of the file of the model that is at work; None = not known.

    Raises:
        DataError: it is no such file, or was found with another number of samples or another model.
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
        found, model = content["samples"], content["checkpoint"]
        origin = f"{content['found_on']} ({content['patients']} patients)"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path}: expected a calibration.json that an evaluate command wrote.") from None
    if found != samples:
        raise DataError(
            f"{path}: found on {found} samples a slice, but there are {samples} now. Use as many, or "
            "calibrate anew."
        )
    if checkpoint is not None and checkpoint != model:
        raise DataError(
            f"{path}: found with the checkpoint of SHA-256 {model[:12]}… ({content['method']}), but this one "
            f"has {checkpoint[:12]}…. An evaluate command with it writes its own calibration.json."
        )
    return corrections, origin


@dataclass(frozen=True)
class HeightCalibration:
    """What makes intervals of the bone height valid.

    Attributes:
        corrections: level -> mm; infinite where there were too few patients.
        origin: where they come from, in words.
        notes: what the reader must know.
    """

    corrections: Mapping[float, float]
    origin: str
    notes: Sequence[str]


def read_height_calibration(path: Path, samples: int, checkpoint: str) -> HeightCalibration:
    """What a file says of the height; arguments and errors as `read_calibration`."""
    corrections, origin = read_calibration(path, samples, checkpoint)
    heights = corrections[MEASURES[0]]
    return HeightCalibration(heights, origin, missing_calibration({MEASURES[0]: heights}, origin))
