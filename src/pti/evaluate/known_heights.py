"""Known distributions of a phantom's true heights, read from its ``truth.csv``."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pti.common.tables import read_csv
from pti.metrics.error_budget import HeightDistribution

_COLUMNS = ("height_mean_mm", "height_std_mm", "height_mm")


def read_height_distribution(path: Path, names: Sequence[str]) -> HeightDistribution | None:
    """Read the distribution of the slices' heights; None unless the table is a phantom's and has all slices.

    Args:
        path: The table.
        names: Names of the slices.
    """
    try:
        _, table = read_csv(path)
        rows = {row["name"]: [float(row[column]) for column in _COLUMNS] for row in table}
        return HeightDistribution(*np.array([rows[name] for name in names]).T)
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return None
