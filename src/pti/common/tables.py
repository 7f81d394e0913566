"""CSV tables: reading and atomic writing."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from pti.common.files import write_text_atomically

Rows = Iterable[Mapping[str, Any]]


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


def _cell(value: Any, digits: int | None) -> Any:
    if not isinstance(value, Real) or isinstance(value, Integral):
        return value
    if math.isnan(value):
        return ""
    return value if digits is None else f"{float(value):.{digits}g}"
