"""What is known of a phantom's heights beyond the images: the distribution that they were drawn from."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pti.metrics.error_budget import HeightDistribution

_COLUMNS = ("height_mean_mm", "height_std_mm", "height_mm")


def read_law(path: Path, names: Sequence[str]) -> HeightDistribution | None:
    """The law of some slices' heights from a phantom's ``truth.csv``; None where it doesn't tell it of all.

    Args:
        path: the table.
        names: of the slices.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = {row["name"]: [float(row[column]) for column in _COLUMNS] for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no phantom's table
    if not names or not all(name in rows for name in names):
        return None
    return HeightDistribution(*np.array([rows[name] for name in names]).T)
