"""CSV tables: reading and atomic writing."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pti.common.errors import DataError
from pti.common.files import write_text_atomically

if TYPE_CHECKING:
    import numpy as np

Rows = Iterable[Mapping[str, Any]]

TEXT_COLUMNS = ("method", "minus", "name", "patient", "split")
"""Columns that are text even if all their cells look like numbers, as patients' names may."""


def write_csv(path: Path, columns: Sequence[str] | None, rows: Rows, digits: int | None = None) -> None:
    """Write a CSV table atomically; see `csv_text` for the arguments."""
    write_text_atomically(path, csv_text(columns, rows, digits))


def csv_text(columns: Sequence[str] | None, rows: Rows, digits: int | None = None) -> str:
    """Format rows as CSV with a header and line feeds as line ends.

    The cell of a missing key, of None and of NaN is empty.

    Args:
        columns: Columns to write, in order; None writes all keys in the order of their first appearance.
        rows: Rows of the table, by column.
        digits: Significant digits of floating-point numbers; None writes them in full.
    """
    rows = list(rows)
    if columns is None:
        columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(cell, digits) for key, cell in row.items()} for row in rows)
    return text.getvalue()


def read_csv(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Read the column names and the rows of a CSV table, separated by commas, semicolons or tabs.

    Raises:
        OSError, UnicodeDecodeError, csv.Error: The table cannot be read.
    """
    with open(path, newline="", encoding="utf-8-sig") as file:
        header = file.readline()
        file.seek(0)
        reader = csv.DictReader(file, delimiter=max(",;\t", key=header.count))
        rows = list(reader)
        return list(reader.fieldnames or ()), rows


def read_columns(path: str | Path) -> dict[str, np.ndarray]:
    """Read a CSV table by column.

    Returns:
        Column -> (N,) float64 if every filled cell is a number, with NaN for empty cells; (N,) text
        otherwise, and for :data:`TEXT_COLUMNS`.

    Raises:
        DataError: The table can't be read.
    """
    import numpy as np  # here, so that commands can import this file before they need numpy

    try:
        columns, rows = read_csv(Path(path))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: the table can't be read ({error}). Expected a CSV file.") from None

    def values(column: str) -> np.ndarray:
        cells = [row[column] or "" for row in rows]
        with suppress(ValueError):
            if column not in TEXT_COLUMNS:
                return np.array([float(cell) if cell else math.nan for cell in cells], np.float64)
        return np.array(cells, str)

    return {column: values(column) for column in columns}


def _cell(value: Any, digits: int | None) -> Any:
    if not isinstance(value, Real) or isinstance(value, Integral):
        return value
    if math.isnan(value):
        return ""
    return value if digits is None else f"{float(value):.{digits}g}"
