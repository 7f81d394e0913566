"""Fit the conformal calibration of a method, and format it as ``calibration.json``."""

import json
import math
from collections.abc import Mapping, Sequence

from pti.evaluate.scores import Scores
from pti.inference.calibration_file import BAND_FACTORS, MEASURES, Calibration
from pti.metrics.calibration import LEVELS, conformal_correction
from pti.metrics.outline_band import MeasuredOutline, band_factor
from pti.runs.manifest import EVENLY_SPREAD


def fit_corrections(scores: Scores) -> dict[str, dict[float, float]]:
    """Fit a correction for each of `MEASURES` and each level: measure -> level -> mm."""
    return {
        measure: {
            level: conformal_correction(
                scores.predicted[measure],
                scores.true[measure],
                scores.patients,
                level,
                scores.evenly_spread,
            )
            for level in LEVELS
        }
        for measure in MEASURES
    }


def fit_band_factors(outlines: Sequence[MeasuredOutline], patients: Sequence[str]) -> dict[float, float]:
    """Fit the factor of the outline's band for each level."""
    return {level: band_factor(outlines, patients, level) for level in LEVELS}


def calibration_text(scores: Scores, calibration: Calibration, checkpoint: str) -> str:
    """Format the text of ``calibration.json``.

    Args:
        scores: The scores of the fit.
        calibration: The fit.
        checkpoint: SHA-256 of the checkpoint file.
    """
    content = {
        "method": scores.method,
        "checkpoint": checkpoint,
        "samples": scores.samples,
        EVENLY_SPREAD: calibration.evenly_spread,
        "found_on": calibration.origin,
        "slices": len(scores.names),
        "patients": len(set(scores.patients)),
        "corrections_mm": {measure: _finite(levels) for measure, levels in calibration.corrections.items()},
    }
    if calibration.band_factors:
        content[BAND_FACTORS] = _finite(calibration.band_factors)
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _finite(levels: Mapping[float, float]) -> dict[str, float | None]:
    return {str(level): value if math.isfinite(value) else None for level, value in levels.items()}
