"""Fit the conformal corrections of a method's intervals, and format them as ``calibration.json``."""

import json
import math

from pti.evaluate.scores import Scores
from pti.inference.calibration_file import MEASURES, Corrections
from pti.metrics.calibration import LEVELS, conformal_correction


def fit_corrections(scores: Scores) -> dict[str, dict[float, float]]:
    """Fit a correction for each of `MEASURES` and each level: measure -> level -> mm."""
    return {
        measure: {
            level: conformal_correction(
                scores.predicted[measure], scores.true[measure], scores.patients, level
            )
            for level in LEVELS
        }
        for measure in MEASURES
    }


def calibration_text(scores: Scores, corrections: Corrections, origin: str, checkpoint: str) -> str:
    """Format the text of ``calibration.json``.

    Args:
        scores: The scores of the fit.
        corrections: Mm.
        origin: Text that names the patients of the fit.
        checkpoint: SHA-256 of the checkpoint file.
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
