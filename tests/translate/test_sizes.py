"""Translate with a model of sizes: a table with intervals, corrected by a calibration; no images."""

import json
from functools import partial
from pathlib import Path

import pytest

from helpers.in_process import rows, run_command
from helpers.tiny_checkpoints import save_sizes
from pti.common.files import hash_file
from pti.data.phantom import make_phantom
from pti.inference.calibration_file import MEASURES
from pti.metrics.calibration import QUANTILES
from pti.translate.__main__ import main

run = partial(run_command, main)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "phantom"
    make_phantom(root, patients=6, slices=1, image_size=64, seed=1)
    return root


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, data) -> Path:
    return save_sizes(tmp_path_factory.mktemp("run") / "best.ckpt", data)


def test_a_folder_gets_a_table_of_sizes_and_no_images(tmp_path, checkpoint, data):
    done = run(tmp_path, f"ckpt={checkpoint}", f"input_dir={data / 'dente'}", "output_dir=out")
    table = rows(tmp_path / "out" / "sizes.csv")
    assert len(table) == 6
    for row in table:
        assert float(row["height_low_mm"]) < float(row["height_mm"]) < float(row["height_high_mm"])
        assert float(row["height_mm"]) == pytest.approx(20, abs=5)
        assert "height_true_mm" not in row
    first = table[0]
    interval = f"{float(first['height_low_mm']):.1f}–{float(first['height_high_mm']):.1f}"
    assert f"{first['name']}: height {float(first['height_mm']):.1f} mm, 90 %: {interval}" in done.stdout
    assert f"Next: python -m pti.evaluate ckpt={checkpoint}\n" in done.stdout
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"sizes.csv", "summary.json"} <= written
    assert not written & {"samples", "mean", "pictures"}


def test_a_split_is_compared_with_its_true_sizes(tmp_path, checkpoint):
    run(tmp_path, f"ckpt={checkpoint}", "split=train", "output_dir=out")
    table = rows(tmp_path / "out" / "sizes.csv")
    errors = [abs(float(row["height_mm"]) - float(row["height_true_mm"])) for row in table]
    values = json.loads((tmp_path / "out" / "summary.json").read_text())["figures"]
    assert values["height_error_mm"] == pytest.approx(sum(errors) / len(errors), rel=1e-5)
    assert 0 <= values["height_interval_holds"] <= 1


def calibration(path: Path, checkpoint: Path, samples: int = QUANTILES) -> Path:
    """Write corrections of 1 mm at 80 % and none at 90 %."""
    content = {"method": "sizes", "checkpoint": hash_file(checkpoint), "samples": samples}
    content |= {"found_on": "validation split", "slices": 5, "patients": 5}
    content["corrections_mm"] = {name: {"0.5": 0.5, "0.8": 1.0, "0.9": None} for name in MEASURES}
    path.write_text(json.dumps(content))
    return path


def test_a_calibration_widens_the_intervals_at_the_highest_level_that_it_corrects(tmp_path, checkpoint):
    file = calibration(tmp_path / "calibration.json", checkpoint)
    done = run(tmp_path, f"ckpt={checkpoint}", "split=train", f"calibration={file}", "output_dir=out")
    (row, *_) = rows(tmp_path / "out" / "sizes.csv")
    assert float(row["interval_level"]) == 0.8
    assert float(row["height_high_mm"]) - float(row["height_low_mm"]) > 2
    assert "no corrected 90 % interval" in done.stdout


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("steps=3",), "it samples no images"),
        (("sampler=ddim", "guidance_scale=2"), "Omit sampler and guidance_scale"),
        (("precision=bf16",), "Omit precision"),
    ],
)
def test_settings_of_a_sampler_are_refused(tmp_path, checkpoint, settings, message):
    done = run(tmp_path, f"ckpt={checkpoint}", "split=train", *settings, "output_dir=out", code=2)
    assert message in done.stderr


def test_another_calibration_and_the_users_files_are_refused(tmp_path, checkpoint):
    file = calibration(tmp_path / "calibration.json", checkpoint, samples=8)
    arguments = (f"ckpt={checkpoint}", "split=train", "output_dir=out")
    assert "fitted on 8 samples" in run(tmp_path, *arguments, f"calibration={file}", code=1).stderr
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "sizes.csv").write_text("mine")
    run(tmp_path, *arguments, code=2)
    assert (tmp_path / "out" / "sizes.csv").read_text() == "mine"
