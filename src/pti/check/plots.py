"""Data of the report's plots, which `templates/plots.html` draws as inline SVG."""

from collections.abc import Container, Sequence
from typing import Any

import numpy as np

from pti.check.image_facts import QUANTILES, PairFacts, patient_quantiles
from pti.check.thresholds import THRESHOLDS

MAX_PATIENTS = 60  # rows of the plot of intensities


def placement(facts: Sequence[PairFacts], flagged: Container[str]) -> dict[str, Any] | None:
    """Collect the displacement of each target in pixels, flagged pairs last, which draws them on top.

    Args:
        facts: facts about the pairs.
        flagged: names of files with a finding.

    Returns:
        ``dots`` (pair, shift to the right, shift down, whether it is flagged), ``reach`` of the axes, to
        which the shifts are clipped, and ``limit`` of a displacement; None if no pair could be aligned.
    """
    aligned = [(pair, pair.alignment) for pair in facts if pair.alignment is not None]
    if not aligned:
        return None
    shifts = np.array([(alignment.shift_x_px, alignment.shift_y_px) for _, alignment in aligned])
    limit = THRESHOLDS.shift_px
    reach = max(1.5 * limit, 1.1 * min(np.abs(shifts).max(), 20.0))
    clipped = np.clip(shifts, -reach, reach).tolist()
    dots = [
        (pair, *shift, pair.files[0] in flagged) for (pair, _), shift in zip(aligned, clipped, strict=True)
    ]
    return {"dots": sorted(dots, key=lambda dot: dot[-1]), "reach": reach, "limit": limit}


def intensities(facts: Sequence[PairFacts], role: str) -> list[tuple[str, float, float, float]]:
    """List the 10th, 50th and 90th percentile of each patient's tissue, in ascending order of the median.

    The patients whose median is farthest from the usual one are listed if there are more than MAX_PATIENTS.

    Args:
        facts: facts about the pairs.
        role: ``condition`` or ``target``.
    """
    low, median, high = (QUANTILES.index(percent) for percent in (10, 50, 90))
    quantiles = patient_quantiles(facts, role)
    rows = [(patient or "?", row[low], row[median], row[high]) for patient, row in quantiles.items()]
    usual = np.median([row[2] for row in rows]) if rows else 0.0
    kept = sorted(rows, key=lambda row: -abs(row[2] - usual))[:MAX_PATIENTS]
    return sorted(kept, key=lambda row: row[2])
