"""Measures of images from a CSV table."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from pti.common.errors import UsageError
from pti.common.path_settings import setting
from pti.common.tables import read_csv
from pti.modules.size_targets import power

_FOLDERS = {"condition": "dente", "target": "edente"}
_KEY = "model.attributes.table"


class MeasureTable:
    """Measures of images by name, from a table like ``measures.csv`` of ``python -m pti.measure``.

    It is read at the first use: a checkpoint opens without it.

    Args:
        path: CSV file with the columns ``name``, ``role`` (``condition`` or ``target``) where the two images
            of a pair have one name, and each measure: ``height_mm``, ``area_mm2``.
        measures: Measures to read, of `pti.modules.size_targets.MEASURES`.
    """

    def __init__(self, path: Path, measures: Sequence[str]) -> None:
        self.path, self.measures = path, tuple(measures)

    def rows(self, names: Sequence[str], sources: str) -> Tensor:
        """Return the measures (B, M) of images, mm (area: mm²); NaN where the table has no value.

        Args:
            names: Names as in a batch: ``dente/NAME``, or NAME alone.
            sources: ``data.sources``, which says what images without a folder in their name are.

        Raises:
            UsageError: The table can't be read, lacks a column or holds none of the images.
        """
        folder = _FOLDERS.get(sources)
        missing = [math.nan] * len(self.measures)
        keys = [name if folder is None else f"{folder}/{name}" for name in names]
        found = [
            self._values.get(key, self._values.get(name, missing))
            for key, name in zip(keys, names, strict=True)
        ]
        return torch.tensor(found, dtype=torch.float32)

    @cached_property
    def _values(self) -> dict[str, list[float]]:
        try:
            columns, rows = read_csv(self.path)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UsageError(f"{setting(_KEY, self.path)}: can't be read ({error}).") from error
        own = {name: f"{name}_mm2" if power(name) == 2 else f"{name}_mm" for name in self.measures}
        lacking = [column for column in ("name", *own.values()) if column not in columns]
        if lacking:
            raise UsageError(
                f"{setting(_KEY, self.path)}: found no column {', '.join(lacking)}; expected a table like "
                "measures.csv of pti measure."
            )
        values = {}
        for number, row in enumerate(rows, 2):
            folder = _FOLDERS.get(row.get("role") or "")
            key = row["name"] if folder is None else f"{folder}/{row['name']}"
            try:
                values[key] = [float(row[column] or "nan") for column in own.values()]
            except ValueError as error:
                raise UsageError(f"{setting(_KEY, self.path)}, line {number}: {error}.") from error
        return values
