"""CSV tables: reading and atomic writing."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from pti.common.files import write_text_atomically

Row = Mapping[str, Any] | Sequence[Any]
"""Cells by column, or in the columns' order."""


def write_csv(
    path: Path, columns: Sequence[str] | None, rows: Iterable[Row], digits: int | None = None
) -> None:
    """Write a CSV table atomically; see `csv_text` for the arguments."""
    write_text_atomically(path, csv_text(columns, rows, digits))


def csv_text(columns: Sequence[str] | None, rows: Iterable[Row], digits: int | None = None) -> str:
    """Format rows as CSV with a header and line feeds as line ends.

    The cell of a missing key, of None and of NaN is empty.

    Args:
        columns: Columns to write, in order; None writes all keys in the order of their first appearance.
        rows: Rows of the table.
        digits: Significant digits of floating-point numbers; None writes them in full.
    """
    rows = list(rows)
    if columns is None:
        columns = list(dict.fromkeys(key for row in rows if isinstance(row, Mapping) for key in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = [row.get(column) for column in columns] if isinstance(row, Mapping) else row
        writer.writerow([_cell(cell, digits) for cell in cells])
    return text.getvalue()


def read_csv(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Read the column names and the rows of a CSV table.

    Raises:
        OSError, UnicodeDecodeError, csv.Error: The table cannot be read.
    """
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
        return list(reader.fieldnames or ()), rows


def _cell(value: Any, digits: int | None) -> Any:
    if not isinstance(value, Real) or isinstance(value, Integral):
        return value
    if math.isnan(value):
        return ""
    return value if digits is None else f"{float(value):.{digits}g}"
