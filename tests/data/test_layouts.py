"""Layouts: pairs by name, never by order; missing images are described; no file leaves the root."""

import os
from pathlib import Path

import numpy as np
import pytest

from helpers.image_sets import WriteSet
from pti.common.errors import DataError, UsageError
from pti.data import tif
from pti.data.layouts import csv_table, leaves_root, paired_folders, require_inside, single_folder

FOLDERS = {"condition": "dente", "target": "edente"}


def test_pairs_match_by_name_and_missing_partners_stay_visible(write_set: WriteSet) -> None:
    root = write_set(patients=2, slices=2)
    (root / "dente" / "000_HA_2021_02_000.tif").unlink()
    (root / "edente" / "001_HA_2021_02_001.tif").unlink()
    pairs = paired_folders(root)
    assert [(pair.name[:3], pair.patient, pair.condition is None, pair.target is None) for pair in pairs] == [
        ("000", "000", True, False),
        ("000", "001", False, False),
        ("001", "000", False, False),
        ("001", "001", False, True),
    ]


def test_endings_hidden_files_and_other_files(tmp_path: Path) -> None:
    for name in ("a_b_c_d_1.TIF", "a_b_c_d_2.tiff", ".a_b_c_d_3.tif", "notes.txt", "a_b_c_d_4.tif.part"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.tif").mkdir()
    pairs = single_folder(tmp_path)
    assert [(pair.name, pair.patient) for pair in pairs] == [
        ("a_b_c_d_1", "1"),
        ("a_b_c_d_2", "2"),
        ("folder", ""),
    ]
    assert all(pair.condition is None for pair in pairs)


def test_a_repeated_name_is_rejected(tmp_path: Path) -> None:
    for name in ("a.tif", "a.tiff"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match="same name"):
        single_folder(tmp_path)


def test_accents_match_in_either_spelling(tmp_path: Path) -> None:
    for folder, name in (("dente", "e\u0301.tif"), ("edente", "\u00e9.tif")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(b"x")
    (pair,) = paired_folders(tmp_path)
    assert pair.condition is not None
    assert pair.target is not None


def test_missing_folders_and_bad_patterns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dente.*data\.root"):
        paired_folders(tmp_path)
    for pattern in ("(", "^.*$"):
        with pytest.raises(UsageError, match="patient_pattern"):
            single_folder(tmp_path, patient_pattern=pattern)


def test_patient_pattern(tmp_path: Path) -> None:
    (tmp_path / "P07-s3.tif").write_bytes(b"x")
    assert single_folder(tmp_path, patient_pattern=r"^P(?P<patient>\d+)")[0].patient == "07"
    assert single_folder(tmp_path)[0].patient == ""


def test_csv_table(tmp_path: Path) -> None:
    rows = "condition,target,patient,split\nx/b.tif,y/b.tif,2,val\n,y/a.tif,1,\nx/c.tif,,3,train\n"
    (tmp_path / "pairs.csv").write_text(rows)
    pairs = csv_table(tmp_path)
    assert [(pair.name, pair.patient, pair.split) for pair in pairs] == [
        ("a", "1", None),
        ("b", "2", "val"),
        ("c", "3", "train"),
    ]
    assert pairs[1].condition == tmp_path / "x/b.tif"
    assert pairs[0].condition is None
    assert pairs[2].target is None


@pytest.mark.parametrize("delimiter", [";", "\t", ","])
def test_csv_table_of_a_european_excel(tmp_path: Path, delimiter: str) -> None:
    table = "condition,target,patient,split\r\ndente\\ä 1.tif,edente\\ä 1.tif,7,val\r\n,edente\\b.tif,8,\r\n"
    (tmp_path / "pairs.csv").write_bytes(table.replace(",", delimiter).encode("utf-8-sig"))
    first, second = csv_table(tmp_path)
    assert (first.name, first.patient, first.split) == ("b", "8", None)
    assert second.files == {role: tmp_path / folder / "ä 1.tif" for role, folder in FOLDERS.items()}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "can't be read"),
        ("condition;target;patient\nä;b;1\n".encode("cp1252"), "Save it there as “CSV UTF-8”"),
        ("a,b\n1,2\n", "columns condition, patient, target are missing"),
        ("condition,target,patient\na.tif,b.tif,1\nc.tif,b.tif,2\n", "more than one row contains b"),
        ("condition,target,patient\n,,1\n", "line 2"),
        ("condition,target,patient,split\na.tif,b.tif,1,dev\n", "'dev' is unknown"),
        (b"\xff\xfe\x00bad", "can't be read"),
    ],
)
def test_csv_mistakes(tmp_path: Path, content: str | bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "pairs.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError, match=message):
        csv_table(tmp_path)


def test_no_file_leaves_the_root(write_set: WriteSet, tmp_path: Path) -> None:
    root = write_set(patients=2, slices=1)
    outside = tmp_path / "outside.tif"
    tif.write(outside, np.ones((4, 4)))
    require_inside(root, paired_folders(root))
    os.symlink(root / "dente" / "000_HA_2021_02_000.tif", root / "dente" / "002_HA_2021_02_000.tif")
    require_inside(root, paired_folders(root))
    os.symlink(outside, root / "dente" / "003_HA_2021_02_000.tif")
    with pytest.raises(DataError, match="003_HA_2021_02_000"):
        require_inside(root, paired_folders(root))
    (root / "pairs.csv").write_text(
        "condition,target,patient\n../outside.tif,edente/000_HA_2021_02_000.tif,0\n"
    )
    with pytest.raises(DataError, match="lead out of the data root"):
        require_inside(root, csv_table(root))
    assert leaves_root(root, root.parent / "set2" / "a.tif")
    linked = tmp_path / "linked"
    linked.symlink_to(root)
    assert not leaves_root(linked, linked / "dente" / "000_HA_2021_02_000.tif")
