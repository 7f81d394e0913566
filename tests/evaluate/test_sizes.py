"""Evaluate models of sizes: alone, and beside models that make images."""

import json
from pathlib import Path

import pytest

from helpers.in_process import Done, rows, run_command
from helpers.tiny_checkpoints import save_sizes, save_translator
from pti.evaluate.__main__ import main
from pti.metrics.calibration import QUANTILES


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory, phantom) -> list[Path]:
    folder = tmp_path_factory.mktemp("run")
    paths = [folder / name / "checkpoints" / "best.ckpt" for name in ("sizes", "ldm")]
    for path in paths:
        path.parent.mkdir(parents=True)
    return [save_sizes(paths[0], phantom), save_translator(paths[1], phantom)]


def evaluate(folder: Path, *settings: str) -> tuple[Done, dict, dict[str, dict[str, float]]]:
    """Return the output, the figures, and method -> metric -> mean."""
    done = run_command(main, folder, *settings, "samples=2", "split=train", "output_dir=out")
    figures = json.loads((folder / "out" / "summary.json").read_text())["figures"]
    means: dict[str, dict[str, float]] = {}
    for row in rows(folder / "out" / "summary.csv"):
        means.setdefault(row["method"], {})[row["figure"]] = float(row["value"] or "nan")
    return done, figures, means


def test_sizes_alone_have_errors_crps_and_coverage_and_their_calibration(tmp_path, checkpoints):
    done, figures, means = evaluate(tmp_path, f"ckpt={checkpoints[0]}")
    assert "trained on" in done.stdout
    assert 0 < figures["height_crps_mm"] < figures["height_abs_error_mm"]
    assert {f"height {level}% interval holds" for level in (50, 80, 90)} <= set(figures)
    assert "samples" not in figures
    assert "dice" not in means["sizes"]
    assert next(iter(means)) == "sizes"
    assert "linear regression on the condition" in means
    calibration = json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert calibration["samples"] == QUANTILES
    assert calibration["corrections_mm"]["width_quarter"]["0.5"] is None, "it isn't predicted"
    report = (tmp_path / "out" / "report.html").read_text()
    assert "This method predicts sizes only" in report
    assert "median of a predicted distribution" in report


@pytest.mark.parametrize("given", ["steps=3", "mirror=true", "precision=bf16"])
def test_settings_of_a_sampler_are_refused_for_sizes_alone(tmp_path, checkpoints, given):
    done = run_command(main, tmp_path, f"ckpt={checkpoints[0]}", given, "output_dir=out", code=2)
    assert f"{given.split('=')[0]}: ckpt={checkpoints[0]} predicts sizes" in done.stderr


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.usefixtures("without_plots")
def test_sizes_stand_beside_images_on_the_same_slices(tmp_path, checkpoints, first):
    listed = f"[{checkpoints[first]},{checkpoints[1 - first]}]"
    _, figures, means = evaluate(tmp_path, f"ckpt={listed}", "distributions=false")
    assert next(iter(means)) == ("sizes", "ldm")[first]
    assert means["sizes"]["height_abs_error_mm"] < means["ldm"]["height_abs_error_mm"]
    assert "dice" in means["ldm"]
    assert f"height_abs_error_mm of {('ldm', 'sizes')[first]}" in figures
    compared = {(row["minus"], row["figure"]) for row in rows(tmp_path / "out" / "differences.csv")}
    assert (("ldm", "sizes")[first], "height_abs_error_mm") in compared


@pytest.mark.usefixtures("without_plots")
def test_sets_are_compared_beside_a_model_without_images(tmp_path, checkpoints):
    _, figures, _ = evaluate(tmp_path, f"ckpt=[{checkpoints[1]},{checkpoints[0]}]")
    assert not [name for name in figures if name.startswith("KID") and name.endswith("of sizes")]
    assert [name for name in figures if name.startswith("KID")]
