"""The baselines of an evaluation: their fit, and their place among the methods."""

from pathlib import Path

import numpy as np
import pytest

from helpers.in_process import rows as table
from helpers.in_process import run_command
from pti.data import tif
from pti.data.input_images import find_images
from pti.data.layouts import paired_folders
from pti.data.phantom import make_phantom
from pti.evaluate.__main__ import main
from pti.evaluate.baselines import LOOKUP, UNCHANGED, fit_baselines, image_baselines
from pti.evaluate.scores import Case


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "phantom"
    make_phantom(root, patients=5, slices=1, image_size=64, seed=1)
    return root


def brightened(data: Path, folder: Path) -> Path:
    """Targets that are a function of the condition's intensity: 3000 minus a quarter of it."""
    folder.mkdir()
    for image in find_images(data / "dente"):
        raw = tif.read(image.path).pixels
        tif.write(folder / f"{image.name}.tif", np.where(raw > 0, 3000 - raw / 4, 0))
    return folder


def cases(data: Path, targets: Path, patients: list[str]) -> list[Case]:
    images = find_images(data / "dente")
    return [
        Case(image.name, patient, targets / f"{image.name}.tif", image.path)
        for image, patient in zip(images, patients, strict=True)
    ]


@pytest.mark.usefixtures("without_plots")
def test_the_intensity_look_up_is_a_method_like_the_unchanged_condition(tmp_path, data):
    targets = brightened(data, tmp_path / "targets")
    folders = [f"prediction_dir={data}/dente", f"target_dir={targets}", f"condition_dir={data}/dente"]
    run_command(main, tmp_path, *folders, "distributions=false", "output_dir=out")
    summary = {(row["method"], row["figure"]): row for row in table(tmp_path / "out" / "summary.csv")}
    assert float(summary[LOOKUP, "bone_mae"]["value"]) < 10 < float(summary["dente", "bone_mae"]["value"])
    for figure in ("psnr", "ssim", "ms_ssim", "bone_ssim", "dice"):
        assert float(summary[LOOKUP, figure]["value"]) > float(summary[UNCHANGED, figure]["value"])
    rows = table(tmp_path / "out" / "differences.csv")
    assert next(r for r in rows if (r["minus"], r["figure"]) == (LOOKUP, "mae"))["verdict"] == "worse"
    assert (
        "the baselines of each patient were fitted on the other patients"
        in (tmp_path / "out" / "report.html").read_text()
    )


def test_training_pairs_are_preferred_to_the_other_patients(tmp_path, data):
    targets = brightened(data, tmp_path / "targets")
    fitted, notes = fit_baselines(paired_folders(data), 0.15), []
    slices = cases(data, targets, list("abcde"))
    condition = tif.read(data / "dente" / f"{slices[0].name}.tif").pixels
    here, trained = (image_baselines(slices, fit, notes)[LOOKUP] for fit in (None, fitted))
    inside = condition > 0
    expected = 3000 - condition[inside] / 4
    assert np.abs(here(condition, "a")[inside] - expected).mean() < 10
    assert np.abs(trained(condition, "a")[inside] - expected).mean() > 100
    assert len(notes) == 1
    assert len(fitted.sizes.conditions["height"]) == 5


def test_baselines_without_their_inputs_are_left_out(data):
    notes: list[str] = []
    of_one = cases(data, data / "edente", ["a"] * 5)
    assert image_baselines(of_one, None, notes).keys() == {UNCHANGED}
    assert "need two patients" in notes[0]
    assert image_baselines([Case("1", "a", of_one[0].target)], None, notes) == {}
