"""The command: folders, checkpoints with tiny random weights, mistakes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.in_process import Done, run_command
from helpers.in_process import rows as table
from helpers.tiny_checkpoints import save_translator
from pti.data import tif
from pti.data.input_images import find_images
from pti.data.phantom import make_phantom
from pti.evaluate.__main__ import main

PATIENTS, SLICES = 6, 2
PIXEL_MM = 0.15 * 256 / 64


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "phantom"
    make_phantom(root, patients=PATIENTS, slices=SLICES, image_size=64, seed=1)
    return root


def run(folder: Path, *arguments: str, code: int = 0) -> Done:
    return run_command(main, folder, *arguments, code=code)


def figures(folder: Path) -> dict[str, float]:
    return json.loads((folder / "summary.json").read_text())["figures"]


def truth(data: Path) -> dict[str, dict[str, str]]:
    return {row["name"]: row for row in table(data / "truth.csv")}


def test_true_images_against_themselves_are_perfect(tmp_path, data):
    folders = [f"prediction_dir={data}/edente", f"target_dir={data}/edente", f"condition_dir={data}/dente"]
    run(tmp_path, *folders, "distributions=false", "output_dir=out")
    rows = [row for row in table(tmp_path / "out" / "per_slice.csv") if row["method"] == "edente"]
    assert len(rows) == PATIENTS * SLICES
    for row in rows:
        errors = {key: value for key, value in row.items() if "error" in key or "crps" in key}
        assert {float(value) for value in errors.values() if value} == {0}
        assert errors["height_error_mm"] == "0"
        perfect = {"dice": "1", "iou": "1", "ssim": "1", "ms_ssim": "1", "psnr": "inf", "mae": "0"}
        assert {key: row[key] for key in perfect} == perfect
        assert row["hausdorff95_mm"] == row["bone_mae"] == "0"
        assert row["crest_roughness_ratio"] == "1"
    assert figures(tmp_path / "out")["height_abs_error_mm"] == 0


@pytest.mark.usefixtures("without_plots")
def test_errors_of_the_condition_agree_with_the_phantoms_table(tmp_path, data):
    folders = [f"prediction_dir={data}/dente", f"target_dir={data}/edente", f"condition_dir={data}/dente"]
    run(tmp_path, *folders, "distributions=false", "output_dir=out")
    known, methods = truth(data), {}
    for row in table(tmp_path / "out" / "per_slice.csv"):
        methods.setdefault(row["method"], {})[row["name"]] = row
    assert methods["dente"].keys() == known.keys()
    for name, row in known.items():
        expected = float(row["dente_height_mm"]) - float(row["height_mm"])
        for method in ("dente", "condition unchanged"):  # a pixel for each of the two heights
            assert float(methods[method][name]["height_error_mm"]) == pytest.approx(
                expected, abs=2 * PIXEL_MM
            )
    for row in table(tmp_path / "out" / "dimensions.csv"):
        if row["method"] == "dente":
            for measure in ("height", "width_quarter", "width_half", "width_at_10mm"):
                expected = float(known[row["name"]][f"{measure}_px"])
                assert float(row[f"{measure}_true_px"]) == pytest.approx(expected, abs=1)
            expected = float(known[row["name"]]["dente_height_px"])
            assert float(row["height_predicted_px"]) == pytest.approx(expected, abs=1)
    values = figures(tmp_path / "out")
    assert values["height_abs_error_mm of condition − mean loss"] < 3
    chance = np.array([float(row["height_mean_mm"]) - float(row["height_mm"]) for row in known.values()])
    assert values["height error (rms, mm), chance"] == pytest.approx(np.sqrt(np.mean(chance**2)))


def test_ragged_crests_are_reported(tmp_path, data):
    """Columns moved by two pixels at random, in two samples, beside the true images themselves."""
    (tmp_path / "ragged").mkdir()
    rng = np.random.default_rng(0)
    for image in find_images(data / "edente"):
        pixels = tif.read(image.path).pixels
        for sample in range(2):
            moves = rng.integers(-2, 3, pixels.shape[1])
            moved = np.stack([np.roll(column, move) for column, move in zip(pixels.T, moves, strict=True)], 1)
            tif.write(tmp_path / "ragged" / f"{image.name}_s{sample:02d}.tif", moved, PIXEL_MM)
    folders = [f"prediction_dir=[ragged,{data}/edente]", f"target_dir={data}/edente"]
    run(tmp_path, *folders, "distributions=false", "output_dir=out")
    means = {
        row["method"]: float(row["value"])
        for row in table(tmp_path / "out" / "summary.csv")
        if row["figure"] == "crest_roughness_ratio"
    }
    assert means["edente"] == 1
    assert means["ragged"] > means["ragged (mean image)"] > 1
    assert means["ragged"] == pytest.approx(figures(tmp_path / "out")["crest_roughness_ratio"])
    for name in ("per_slice.csv", "per_patient.csv"):
        rows = table(tmp_path / "out" / name)
        smooth, rough = (
            np.mean([float(row["crest_roughness_mm"]) for row in rows if row["method"] == method])
            for method in ("edente", "ragged")
        )
        assert rough > 1.3 * smooth > 0
    html = (tmp_path / "out" / "report.html").read_text()
    assert "<th>crest roughness<br>1 = true</th>" in html
    assert "<dt>crest roughness</dt>" in html


@pytest.mark.slow
@pytest.mark.usefixtures("without_plots")
def test_nearest_training_images_are_flagged_and_real_ones_are_not(tmp_path):
    """A model that returns its training images, and one that returns images of other patients."""
    sets = {}
    for name, seed, patients in (("training", 1, 8), ("held_out", 2, 5), ("others", 3, 5)):
        sets[name] = tmp_path / name
        make_phantom(sets[name], patients=patients, slices=1, image_size=64, seed=seed)
    targets = sorted((sets["held_out"] / "edente").iterdir())
    predictions = {"copies": sets["training"], "strangers": sets["others"]}
    for kind, source in predictions.items():
        (tmp_path / kind).mkdir()
        for target, prediction in zip(targets, sorted((source / "edente").iterdir()), strict=False):
            shutil.copy(prediction, tmp_path / kind / target.name)
        run(
            tmp_path,
            f"prediction_dir={kind}",
            "target_dir=held_out/edente",
            "training_dir=training/edente",
            f"output_dir=out_{kind}",
        )
        values = figures(tmp_path / f"out_{kind}")
        assert values["copies training images (pixels)"] == (kind == "copies")
        assert "KID (EfficientNet-Lite0 (ImageNet))" in values
        rows = table(tmp_path / f"out_{kind}" / "memorization.csv")
        assert len(rows) == 5


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, data) -> Path:
    folder = tmp_path_factory.mktemp("run") / "ldm" / "2026-01-02_03-04-05" / "checkpoints"
    folder.mkdir(parents=True)
    return save_translator(folder / "best.ckpt", data)


@pytest.fixture(scope="module")
def result(tmp_path_factory, checkpoint, data) -> Path:
    folder = tmp_path_factory.mktemp("result")
    run(folder, f"ckpt={checkpoint}", f"data.root={data}", "samples=2", "steps=2", "output_dir=out")
    return folder / "out"


def test_a_checkpoint_is_compared_with_the_baselines(result):
    methods = {row["method"] for row in table(result / "summary.csv")}
    assert methods == {
        "ldm",
        "ldm (mean image)",
        "condition unchanged",
        "intensity look-up on the condition",
        "condition − mean loss",
        "linear regression on the condition",
    }
    values = figures(result)
    for source in ("all of it", "autoencoder, target", "chance", "translation", "autoencoder, condition"):
        assert f"height error (rms, mm), {source}" in values
    assert {"copies training images (pixels)", "copies training images (latents)"} <= values.keys()
    html = (result / "report.html").read_text()
    assert "ldm predicts the bone height with a mean absolute error of" in html
    assert "there is no corrected 90 % interval: it needs at least 9 validation patients" in html
    assert "KID is left out: it needs at least 4 slices" in html
    summary = json.loads((result / "summary.json").read_text())
    assert summary["checkpoint"]["sha256"] in json.dumps(summary)
    assert summary["data_fingerprint"]


def test_the_calibration_comes_from_validation_patients(result, data):
    values = json.loads((result / "calibration.json").read_text())
    assert values["samples"] == 2
    assert values["found_on"] == f"validation split of {data}"
    assert values["corrections_mm"]["height"]["0.9"] is None
    assert values["outline_band_factors"]["0.5"] > 0
    assert values["outline_band_factors"]["0.9"] is None
    names = {
        path.name.rsplit("_s", 1)[0]
        for path in (result / "translations" / "ldm" / "val" / "samples").iterdir()
    }
    tested = {row["name"] for row in table(result / "per_slice.csv")}
    assert not names & tested


@pytest.mark.usefixtures("without_plots")
def test_a_second_run_reuses_the_translations(result, checkpoint, data):
    sample = next((result / "translations" / "ldm" / "test" / "samples").iterdir())
    before = sample.stat().st_mtime_ns
    done = ["samples=2", "steps=2", "distributions=false", f"output_dir={result}"]
    run(result.parent, f"ckpt={checkpoint}", f"data.root={data}", *done)
    assert sample.stat().st_mtime_ns == before
    stderr = run(result.parent, f"ckpt={checkpoint}", "samples=3", f"output_dir={result}", code=2).stderr
    assert "results of other settings" in stderr


@pytest.mark.usefixtures("without_plots")
def test_checkpoints_are_compared_pair_by_pair(tmp_path, checkpoint, data):
    other = tmp_path / "other.ckpt"
    shutil.copy(checkpoint, other)
    settings = ["samples=1", "steps=1", "num_samples=2", "split=val", "distributions=false", "output_dir=out"]
    run(tmp_path, f"ckpt=[{checkpoint},{other}]", f"data.root={data}", *settings)
    rows = [row for row in table(tmp_path / "out" / "differences.csv") if row["minus"] == "other"]
    assert {row["method"] for row in rows} == {"ldm"}
    assert {float(row["value"]) for row in rows if row["value"]} == {0}
    assert not (tmp_path / "out" / "calibration.json").exists()


@pytest.mark.usefixtures("without_plots")
def test_every_method_with_images_gets_a_kid(tmp_path, checkpoint, data):
    other = tmp_path / "other.ckpt"
    shutil.copy(checkpoint, other)
    settings = ["samples=2", "steps=1", "data.fractions=[0.2,0,0.8]", "output_dir=out"]
    run(tmp_path, f"ckpt=[{checkpoint},{other}]", f"data.root={data}", *settings)
    values = figures(tmp_path / "out")
    shown_by_demo = {"height_abs_error_mm", "height_abs_error_mm of condition − mean loss"}
    assert shown_by_demo <= values.keys()
    others = (
        *("ldm (mean image)", "other", "other (mean image)"),
        *("condition unchanged", "intensity look-up on the condition"),
    )
    for features in ("EfficientNet-Lite0 (ImageNet)", "own autoencoder (latents, 4 × 4 means)"):
        keys = [f"KID ({features})", *(f"KID ({features}) of {name}" for name in others)]
        assert {key for key in values if key.startswith(f"KID ({features})")} == set(keys)
        assert values[keys[0]] == values[f"KID ({features}) of other"]
        assert values[keys[0]] > values[f"KID ({features}) of condition unchanged"]  # random weights
    rows = table(tmp_path / "out" / "differences.csv")
    verdicts = {row["minus"]: row["verdict"] for row in rows if row["figure"] == "kid_lite0"}
    assert verdicts.keys() == set(others)
    assert verdicts["other"] == "undecided"
    assert verdicts["condition unchanged"] == "worse"
    own = [row for row in table(tmp_path / "out" / "summary.csv") if row["figure"] == "kid_lite0"]
    assert [row["method"] for row in own] == ["ldm", *others]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "neither is set"),
        (["ckpt={checkpoint}", "prediction_dir=."], "both are set"),
        (["ckpt=nothing.ckpt"], "there is no such checkpoint"),
        (["prediction_dir=nowhere", "target_dir=."], "prediction_dir=nowhere"),
        (["prediction_dir=."], "target_dir is not set"),
        (["prediction_dir=.", "target_dir=.", "training_dir=nowhere"], "training_dir=nowhere"),
        (["ckpt={checkpoint}", "split=middle"], "expected one of train, val, test"),
        (["ckpt={checkpoint}", "samples=0"], "expected 1 or more"),
        (["ckpt={checkpoint}", "data_range=-1"], "expected more than 0"),
        (["ckpt={checkpoint}", "pixel_mm=1e-7"], "pixel_mm=1e-07: expected 0.001 to 10"),
        (["ckpt={checkpoint}", "calibration=none.json"], "expected a file"),
        (["ckpt={checkpoint}", "targetdir=."], "Did you mean target_dir?"),
    ],
)
def test_mistakes(tmp_path, checkpoint, arguments, named):
    done = run(tmp_path, *(text.format(checkpoint=checkpoint) for text in arguments), code=2)
    assert named in done.stderr


def test_predictions_of_another_size_are_named(tmp_path, data):
    (tmp_path / "predicted").mkdir()
    name = next(iter(truth(data)))
    tif.write(tmp_path / "predicted" / f"{name}.tif", np.ones((32, 32), np.float32))
    folders = ["prediction_dir=predicted", f"target_dir={data}/edente", "output_dir=out"]
    assert f"{name}.tif: found 32 × 32 pixels, expected 64 × 64" in run(tmp_path, *folders, code=1).stderr


def test_foreign_files_are_not_overwritten(tmp_path, data):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").write_text("mine")
    folders = [f"prediction_dir={data}/dente", f"target_dir={data}/edente", "output_dir=out"]
    assert "report.html" in run(tmp_path, *folders, code=2).stderr
    assert (tmp_path / "out" / "report.html").read_text() == "mine"


def test_folders_are_compared_without_torch_in_this_process():
    """Its import takes seconds, in which the worker processes that need it can begin."""
    program = "import sys, pti.evaluate.of_folders, pti.evaluate.report\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def changed_copy(source: Path, folder: Path, factor: float) -> Path:
    folder.mkdir()
    for image in find_images(source):
        tif.write(folder / image.path.name, tif.read(image.path).pixels * factor, PIXEL_MM)
    return folder


def test_predictions_in_another_unit_and_blank_ones_are_noted(tmp_path, data):
    predictions = changed_copy(data / "edente", tmp_path / "scaled", 1 / 4000)
    tif.write(sorted(predictions.iterdir())[0], np.zeros((64, 64), np.float32), PIXEL_MM)
    folders = (f"prediction_dir={predictions}", f"target_dir={data}/edente")
    done = run(tmp_path, *folders, "distributions=false", "output_dir=out")
    assert "Note: scaled: the tissue reaches 0." in done.stdout
    assert f"Note: scaled: 1 of {PATIENTS * SLICES} images, every pixel is 0" in done.stdout
    assert (
        "write the predictions in the unit of the true images" in (tmp_path / "out/report.html").read_text()
    )


@pytest.mark.usefixtures("without_plots")
def test_predictions_in_the_same_unit_are_not_noted(tmp_path, data):
    folders = (f"prediction_dir={data}/dente", f"target_dir={data}/edente")
    done = run(tmp_path, *folders, "distributions=false", "output_dir=out")
    assert "Note: dente" not in done.stdout
    assert "Note: true images" not in done.stdout


def test_only_blank_targets_are_refused(tmp_path, data, checkpoint):
    (tmp_path / "set").mkdir()
    shutil.copytree(data / "dente", tmp_path / "set" / "dente")
    blank = changed_copy(data / "edente", tmp_path / "set" / "edente", 0)
    done = run(tmp_path, f"prediction_dir={data}/edente", f"target_dir={blank}", "output_dir=out", code=1)
    assert f"all {PATIENTS * SLICES} true images are blank" in done.stderr
    done = run(tmp_path, f"ckpt={checkpoint}", "data.root=set", "samples=1", "output_dir=new", code=1)
    assert "true images are blank" in done.stderr
    assert not list((tmp_path / "new").rglob("*.tif"))


def test_an_absurd_pixel_size_of_a_true_image_is_named(tmp_path, data):
    name = next(iter(truth(data)))
    (tmp_path / "targets").mkdir()
    tif.write(tmp_path / "targets" / f"{name}.tif", tif.read(data / "edente" / f"{name}.tif").pixels, 1e-7)
    done = run(tmp_path, f"prediction_dir={data}/edente", "target_dir=targets", "output_dir=out", code=1)
    assert f"{name}.tif: has pixels of 1e-07 × 1e-07 mm" in done.stderr


@pytest.mark.slow
def test_any_encoding_of_the_output_is_enough(tmp_path, data):
    folders = [f"prediction_dir={data}/dente", f"target_dir={data}/edente", f"condition_dir={data}/dente"]
    done = subprocess.run(
        [sys.executable, "-m", "pti.evaluate", *folders, "distributions=false", "output_dir=out"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "summary.json").is_file()
    done.stdout.decode("cp1252")
