"""The command measure: its table against the bones that were drawn, faulty files, no overwritten results."""

import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.in_process import rows, run_command
from pti.data import tif
from pti.data.phantom import make_phantom
from pti.measure.__main__ import main
from pti.metrics.bone_agreement import find_bone

run = partial(run_command, main)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "phantom"
    make_phantom(root, patients=4, slices=1, image_size=64, seed=1)
    return root


def write_block(path: Path, height: int = 40, width: int = 20, pixel_mm: float | None = 0.5) -> None:
    """Write a rectangle of bone."""
    pixels = np.zeros((64, 48), np.float32)
    pixels[60 - height : 60, 10 : 10 + width] = 1000
    path.parent.mkdir(parents=True, exist_ok=True)
    tif.write(path, pixels, pixel_mm)


def test_a_rectangle_has_its_size_in_pixels_and_mm(tmp_path):
    write_block(tmp_path / "in" / "sub" / "1000_HA_2021_02_545.tif")
    run(tmp_path, "input_dir=in", "output_dir=out")
    (row,) = rows(tmp_path / "out" / "measures.csv")
    assert (row["name"], row["patient"], row["note"]) == ("sub/1000_HA_2021_02_545", "545", "")
    assert (row["height_px"], row["height_mm"]) == ("40", "20")
    assert (row["area_px"], row["area_mm2"]) == ("800", "200")
    for name in ("quarter", "half", "three_quarters", "at_5mm", "at_10mm", "at_14mm", "at_18mm"):
        assert (row[f"width_{name}_px"], row[f"width_{name}_mm"]) == ("20", "10")
    assert row["width_at_22mm_px"] == row["width_at_22mm_mm"] == "", "22 mm is above the crest"


def test_the_numbers_of_a_data_set_are_those_that_evaluate_computes(tmp_path, data):
    done = run(tmp_path, f"data.root={data}", "output_dir=out")
    table = rows(tmp_path / "out" / "measures.csv")
    assert len(table) == 8
    assert {row["role"] for row in table} == {"condition", "target"}
    for row in table:
        folder = {"condition": "dente", "target": "edente"}[row["role"]]
        image = tif.read(data / folder / f"{row['name']}.tif")
        for name, length in find_bone(image.pixels, float(row["pixel_mm"])).lengths.items():
            cell = row[f"{name}_mm2" if name == "area" else f"{name}_mm"]
            assert float(cell or math.nan) == pytest.approx(length, rel=1e-5, nan_ok=True)
    assert "heights above a crest are empty cells" in done.stdout
    assert f"Next: python -m pti.train experiment=sizes data.root={data}\n" in done.stdout
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    heights = [float(row["height_mm"]) for row in table if row["role"] == "target"]
    assert summary["figures"]["height_mm of targets"] == pytest.approx(np.mean(heights), rel=1e-5)
    assert summary["figures"]["patients"] == 4


def test_the_picture_shows_the_outline_and_the_lines_in_colour(tmp_path, data):
    run(tmp_path, f"data.root={data}", "output_dir=out")
    picture = np.asarray(Image.open(tmp_path / "out" / "measures.png").convert("RGB")).astype(int)
    assert np.mean(picture.max(axis=-1) - picture.min(axis=-1) > 80) > 0.01


def test_files_without_bone_or_pixel_size_and_unusable_ones_are_told_apart(tmp_path):
    write_block(tmp_path / "in" / "good.tif")
    write_block(tmp_path / "in" / "no_size.tif", pixel_mm=None)
    tif.write(tmp_path / "in" / "blank.tif", np.zeros((64, 48)), 0.5)
    half = (tmp_path / "in" / "good.tif").read_bytes()[:1000]
    (tmp_path / "in" / "half.tif").write_bytes(half)
    done = run(tmp_path, "input_dir=in", "output_dir=out", "pixel_mm=0.2", code=1)
    table = {row["name"]: row for row in rows(tmp_path / "out" / "measures.csv")}
    assert table["good"]["height_mm"] == "20"
    assert (table["no_size"]["height_mm"], table["no_size"]["pixel_mm_from"]) == ("8", "setting")
    assert "1 of 4 files state no pixel size" in done.stdout
    assert "Next: python -m pti.evaluate prediction_dir=in target_dir=FOLDER\n" in done.stdout
    assert table["blank"]["height_mm"] == ""
    assert table["blank"]["note"].startswith("no bone")
    assert table["half"]["height_mm"] == table["half"]["pixel_mm"] == ""
    assert "truncated" in table["half"]["note"]
    assert "half.tif: is truncated" in done.stderr
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["figures"]["not measured"] == 1


def test_a_folder_of_unusable_files_gets_its_table(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "text.tif").write_text("no image")
    done = run(tmp_path, "input_dir=in", "output_dir=out", code=1)
    assert [row["name"] for row in rows(tmp_path / "out" / "measures.csv")] == ["text"]
    assert not (tmp_path / "out" / "measures.png").exists()
    assert "text.tif" in done.stderr


def test_a_pair_without_partner_is_measured(tmp_path, write_set):
    root = write_set(patients=2, slices=1)
    next((root / "edente").iterdir()).unlink()
    run(tmp_path, f"data.root={root}", "output_dir=out")
    assert len(rows(tmp_path / "out" / "measures.csv")) == 3


def test_worker_processes_measure_the_same(tmp_path, data):
    for patient in range(70):
        write_block(tmp_path / "in" / f"{patient:02d}.tif", height=20 + patient % 30)
    for workers in (1, 2):
        run(tmp_path, "input_dir=in", f"output_dir=out{workers}", f"workers={workers}")
    one, two = ((tmp_path / f"out{workers}" / "measures.csv").read_text() for workers in (1, 2))
    assert one == two


def test_nothing_of_the_users_is_overwritten(tmp_path):
    write_block(tmp_path / "in" / "good.tif")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "measures.csv").write_text("mine")
    done = run(tmp_path, "input_dir=in", "output_dir=out", code=2)
    assert "measures.csv" in done.stderr
    assert (tmp_path / "out" / "measures.csv").read_text() == "mine"
    run(tmp_path, "input_dir=in", "output_dir=other")
    assert (
        "pixel_mm was 0.15"
        in run(tmp_path, "input_dir=in", "output_dir=other", "pixel_mm=0.3", code=2).stderr
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((), "input_dir and data.root: neither is set"),
        (("input_dir=in", "data.root=in"), "input_dir and data.root: both are set"),
        (("input_dir=nowhere",), "expected a folder, found nothing"),
        (("input_dir=in", "pixel_mm=0"), "pixel_mm=0: expected 0.001 to 10"),
        (("input_dir=in", "workers=0"), "workers=0: expected a whole number"),
    ],
)
def test_mistakes_on_the_command_line(tmp_path, settings, message):
    write_block(tmp_path / "in" / "good.tif")
    assert message in run(tmp_path, *settings, "output_dir=out", code=2).stderr
    assert not (tmp_path / "out" / "measures.csv").exists()
