"""CSV tables."""

import math
from pathlib import Path

import numpy as np
import pytest

from pti.common.errors import DataError
from pti.common.tables import csv_text, read_columns, read_csv, write_csv

ROWS = [
    {"name": "a", "value": 1 / 3, "count": 2},
    {"name": 'say "b", c', "value": math.nan, "flag": True},
    {"name": None, "value": np.float32(0.1), "count": np.int64(10**9)},
]


def test_missing_none_and_nan_are_empty_cells():
    assert csv_text(None, ROWS, digits=4) == (
        'name,value,count,flag\na,0.3333,2,\n"say ""b"", c",,,True\n,0.1,1000000000,\n'
    )


def test_numbers_are_written_in_full_by_default():
    assert csv_text(["value", "name"], ROWS[:1]) == f"value,name\n{1 / 3},a\n"


@pytest.mark.parametrize("digits", [6, 7])
def test_infinity_is_written(digits: int):
    assert csv_text(None, [{"x": math.inf}], digits) == "x\ninf\n"


def test_a_written_table_is_read(tmp_path: Path):
    path = tmp_path / "new" / "table.csv"
    write_csv(path, ["name", "value"], ROWS, digits=3)
    assert read_csv(path) == (
        ["name", "value"],
        [{"name": "a", "value": "0.333"}, {"name": 'say "b", c', "value": ""}, {"name": "", "value": "0.1"}],
    )
    assert b"\r" not in path.read_bytes()
    assert [file.name for file in path.parent.iterdir()] == ["table.csv"]


def test_a_table_without_rows_has_its_columns(tmp_path: Path):
    write_csv(tmp_path / "table.csv", ["name", "value"], [])
    assert read_csv(tmp_path / "table.csv") == (["name", "value"], [])


def test_columns_are_numbers_or_text(tmp_path: Path):
    path = tmp_path / "table.csv"
    path.write_text("patient;height_mm;verdict\n007;21.5;better\n012;;\n", encoding="utf-8")
    columns = read_columns(path)
    assert list(columns) == ["patient", "height_mm", "verdict"]
    assert columns["patient"].tolist() == ["007", "012"]
    assert columns["verdict"].tolist() == ["better", ""]
    np.testing.assert_equal(columns["height_mm"], [21.5, np.nan])


def test_a_table_without_rows_has_columns(tmp_path: Path):
    (tmp_path / "table.csv").write_text("a,b\n")
    assert {name: column.size for name, column in read_columns(tmp_path / "table.csv").items()} == {
        "a": 0,
        "b": 0,
    }


def test_a_missing_table_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"absent\.csv: the table can't be read"):
        read_columns(tmp_path / "absent.csv")
