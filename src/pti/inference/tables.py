"""Counts, means and extremes of rows of measurements, one row per image."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]


def count_images(rows: Rows) -> dict[str, int]:
    """Count images and, unless all are unknown (an empty ``patient``), patients."""
    patients = {row["patient"] for row in rows} - {""}
    return {"images": len(rows), **({"patients": len(patients)} if patients else {})}


def mean(rows: Rows, key: str) -> float:
    """Return the mean of all finite values; NaN if there are none."""
    finite = [row[key] for row in rows if key in row and math.isfinite(row[key])]
    return sum(finite) / len(finite) if finite else math.nan


def extreme(rows: Rows, key: str, choose: Callable[..., Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the row with the largest (``choose=max``) or smallest (``min``) value; None without values."""
    measured = [row for row in rows if key in row and not math.isnan(row[key])]
    return choose(measured, key=lambda row: row[key]) if measured else None
