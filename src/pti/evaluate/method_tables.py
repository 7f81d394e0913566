"""Tables of methods in the report: columns, cells and formatted numbers."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pti.evaluate.result import Evaluation
from pti.evaluate.summaries import HIGHER_IS_BETTER
from pti.metrics.bootstrap import Mean

Summaries = Mapping[str, Mapping[str, Mean]]

BONE = {
    "height_abs_error_mm": ("height error", "mm", 2),
    "height_error_mm": ("height bias", "mm", 2),
    "width_half_abs_error_mm": ("width ½ error", "mm", 2),
    "dice": ("Dice", "", 3),
    "hausdorff95_mm": ("Hausdorff 95 %", "mm", 2),
    "height_crps_mm": ("height CRPS", "mm", 2),
    "crest_roughness_ratio": ("crest roughness", "1 = true", 2),
}
IMAGES = {
    "kid_lite0": ("KID", "Lite0", None),
    "bone_ssim": ("SSIM in bone", "", 3),
    "ssim": ("SSIM", "", 3),
    "ms_ssim": ("MS-SSIM", "", 3),
    "psnr": ("PSNR", "dB", 1),
    "mae": ("MAE", "raw", 1),
}
CHANGED = {
    "changed_ghost_index": ("ghost", "0 = true", 2),
    "changed_texture_amplitude": ("texture amplitude", "1 = true", 2),
    "changed_texture_correlation": ("texture", "correlation", 2),
    "kid_changed": ("KID", "patches", None),
    "changed_mae": ("MAE", "raw", 1),
    "changed_ssim": ("SSIM", "", 3),
}
UNCHANGED = {
    "unchanged_texture_amplitude": ("texture amplitude", "1 = true", 2),
    "unchanged_texture_correlation": ("texture", "correlation", 2),
    "unchanged_mae": ("MAE", "raw", 1),
    "unchanged_ssim": ("SSIM", "", 3),
}
COLUMNS = BONE | IMAGES | CHANGED | UNCHANGED
"""Metric -> label, unit and decimal places (None: three significant digits)."""

_UNRANKED = {
    "height_error_mm",
    "crest_roughness_ratio",
    "changed_ghost_index",
    "changed_texture_amplitude",
    "unchanged_texture_amplitude",
}


def number(value: float | None, digits: int | None = 2) -> str:
    """Format a number with a true minus sign; ``–`` for a missing one, ``∞`` for an infinite one.

    Args:
        value: The number; None and NaN are missing.
        digits: Decimal places; None = three significant digits.
    """
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if digits is None:
        digits = 0 if abs(value) >= 999.5 else None
    return (f"{value:.3g}" if digits is None else f"{value:.{digits}f}").replace("-", "−")


def interval_text(mean: Mean, digits: int | None = 2) -> str:
    """Format the interval of a mean; empty without one."""
    return "" if math.isnan(mean.low) else f"{number(mean.low, digits)} to {number(mean.high, digits)}"


def method_table(summaries: Summaries, columns: Iterable[str]) -> dict[str, list]:
    """Build a table of the methods that have any of these metrics."""
    shown = [column for column in columns if any(column in metrics for metrics in summaries.values())]
    rows = [
        {"method": name, "cells": [_cell(summaries, name, column) for column in shown]}
        for name, metrics in summaries.items()
        if any(column in metrics for column in shown)
    ]
    return {"columns": [COLUMNS[column] for column in shown], "rows": rows}


def region_tables(evaluation: Evaluation, summaries: Summaries) -> dict[str, Any] | None:
    """Build a table for each region, and describe how much of the tissue changed."""
    share = evaluation.measurements.changed_share
    if share is None:
        return None
    low, middle, high = (f"{100 * value:.0f}" for value in np.nanquantile(share, (0.05, 0.5, 0.95)))
    unchanged = evaluation.scores.metrics.get("unchanged_mae")
    text = f"{middle} % of the true tissue changed (median of the slices; {low} to {high} % in nine of ten)."
    if unchanged is not None and (missing := int(np.isnan(unchanged[:, 0]).sum())):
        text += f" In {missing} of {len(share)} slices nothing is unchanged."
    size = evaluation.measurements.region_size
    text += f" Images are compared at {f'{size} pixels, as networks see them' if size else 'their own size'}."
    tables = {"Changed tissue": CHANGED, "Unchanged tissue": UNCHANGED}
    return {
        "text": text,
        "tables": {title: method_table(summaries, columns) for title, columns in tables.items()},
    }


def _cell(summaries: Summaries, method: str, column: str) -> dict[str, Any]:
    mean, digits = summaries[method].get(column), COLUMNS[column][2]
    if mean is None or math.isnan(mean.value):
        return {"value": "–", "interval": "", "best": False}
    values = [metrics[column].value for metrics in summaries.values() if column in metrics]
    values = [value for value in values if not math.isnan(value)]
    best = mean.value == (max if column in HIGHER_IS_BETTER else min)(values)
    best = best and column not in _UNRANKED and len(values) > 1
    return {"value": number(mean.value, digits), "interval": interval_text(mean, digits), "best": best}
