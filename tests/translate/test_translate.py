"""The command translate with tiny random weights: its files, resuming, mistakes."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.in_process import Done, rows, run_command
from helpers.tiny_checkpoints import AUTOENCODER, LAYOUT, TRANSLATOR, save, save_translator
from pti.common.files import hash_file
from pti.data import tif
from pti.data.input_images import find_images
from pti.data.phantom import make_phantom
from pti.data.splits import open_folders
from pti.inference.calibration_file import MEASURES
from pti.runs.constructors import build
from pti.translate.__main__ import main


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "phantom"
    make_phantom(root, patients=6, slices=1, image_size=64, seed=1)
    return root


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, data) -> Path:
    return save_translator(tmp_path_factory.mktemp("run") / "best.ckpt", data)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pti.translate", *arguments]


run = partial(run_command, main)


def results(output: Path) -> dict[str, bytes]:
    folders = ("samples", "mean", "spread", "pictures")
    paths = [path for folder in folders for path in (output / folder).rglob("*") if path.is_file()]
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def result(tmp_path_factory, checkpoint) -> tuple[Path, Done]:
    output = tmp_path_factory.mktemp("result") / "out"
    settings = ("split=train", "samples=3", "batch_size=4", f"output_dir={output}")
    return output, run(output.parent, f"ckpt={checkpoint}", *settings)


def test_a_split_is_translated_and_measured_against_its_targets(result, data):
    output, done = result
    expected = open_folders(data, build(LAYOUT, "the test"), (0.5, 0.25, 0.25), 3, {})[0].numbered("train")
    names = [pair.name for _, pair in expected]
    images = rows(output / "images.csv")
    assert [row["name"] for row in images] == names
    assert all(row["patient"] and float(row["target_height_mm"]) > 0 for row in images)
    metrics = json.loads((output / "summary.json").read_text())["figures"]
    assert metrics["sampler"] == "ddim(eta=0.5)"
    assert metrics["steps"] == 3
    assert metrics["height_error_mm"] == pytest.approx(
        np.mean([float(row["height_error_mm"]) for row in images])
    )
    loss = np.mean([float(row["condition_height_mm"]) - float(row["target_height_mm"]) for row in images])
    assert metrics["training_height_loss_mm"] == pytest.approx(loss)
    assert "offset_height_error_mm" in done.stdout


def test_a_row_and_a_file_for_each_sample(result, data):
    output, _ = result
    samples = rows(output / "manifest.csv")
    assert len(samples) == 3 * len(rows(output / "images.csv"))
    assert len({row["seed"] for row in samples}) == len(samples)
    for row in samples:
        original = tif.read(data / "dente" / f"{row['name']}.tif")
        sample = tif.read(output / row["file"])
        assert sample.pixels.shape == original.pixels.shape
        assert sample.pixel_mm == pytest.approx(original.pixel_mm)
        assert sample.pixels[0, 0] == 0 or (sample.pixels == 0).any()


def test_samples_of_an_image_differ_and_a_repeated_command_gives_the_same_bytes(result, tmp_path, checkpoint):
    output, _ = result
    run(tmp_path, f"ckpt={checkpoint}", "split=train", "samples=3", "batch_size=4", "output_dir=out")
    first, again = results(output), results(tmp_path / "out")
    assert again == first
    samples = [content for name, content in first.items() if name.startswith("samples/")]
    assert len(set(samples)) == len(samples)


@pytest.mark.parametrize(
    "more", [["batch_size=1"], pytest.param(["batch_size=7", "devices=2"], marks=pytest.mark.slow)]
)
def test_any_batch_size_and_number_of_devices_give_the_same_images(result, tmp_path, checkpoint, more):
    if "devices=2" in more and (os.cpu_count() or 1) < 2:
        pytest.skip("needs two processors")
    output, _ = result
    settings = ("split=train", "samples=3", "accelerator=cpu", "output_dir=out", *more)
    run(tmp_path, f"ckpt={checkpoint}", *settings)
    for name in results(output):
        if name.startswith("samples/"):
            one, two = (tif.read(root / name).pixels for root in (output, tmp_path / "out"))
            assert np.abs(one - two).max() <= 1e-4 * one.max()


def test_another_precision_gives_almost_the_same_images_and_has_its_own_folder(result, tmp_path, checkpoint):
    output, _ = result
    settings = (f"ckpt={checkpoint}", "split=train", "samples=3", "accelerator=cpu", "output_dir=out")
    done = run(tmp_path, *settings, "precision=bf16")
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["figures"]["precision"] == "bf16"
    differences = []
    for name in results(output):
        if name.startswith("samples/"):
            one, two = (tif.read(root / name).pixels for root in (output, tmp_path / "out"))
            differences.append(np.abs(one - two).mean() / one.max())
    assert 0 < max(differences) < 0.01
    done = run(tmp_path, *settings, code=2)
    assert "precision was bf16, now float32" in done.stderr


def test_a_folder_of_an_earlier_version_without_precision_is_continued(result, tmp_path, checkpoint):
    output = tmp_path / "out"
    shutil.copytree(result[0], output)
    first, *others = (output / "manifest.jsonl").read_text().splitlines(keepends=True)
    settings = json.loads(first)
    assert settings.pop("precision") == "float32"
    (output / "manifest.jsonl").write_text("".join([json.dumps(settings) + "\n", *others]))
    arguments = (f"ckpt={checkpoint}", "split=train", "samples=3", "batch_size=4", "output_dir=out")
    assert "samples are done" in run(tmp_path, *arguments).stdout
    assert "now bf16" in run(tmp_path, *arguments, "precision=bf16", code=2).stderr


def test_a_folder_without_targets(tmp_path, checkpoint, data):
    settings = ("num_samples=2", "samples=1", "steps=1", "output_dir=out")
    done = run(tmp_path, f"ckpt={checkpoint}", f"input_dir={data}/dente", *settings)
    assert sorted({name.split("/")[0] for name in results(tmp_path / "out")}) == [
        "mean",
        "pictures",
        "samples",
    ]
    metrics = json.loads((tmp_path / "out" / "summary.json").read_text())["figures"]
    assert (metrics["images"], metrics["steps"]) == (2, 1)
    assert "error" not in done.stdout
    # An image has the same name in a folder and in a split, and therefore the same noise.
    assert all("/" not in row["name"] for row in rows(tmp_path / "out" / "images.csv"))


def test_a_finished_run_is_not_repeated_and_other_settings_are_refused(result, checkpoint):
    output, _ = result
    before = {path: path.stat().st_mtime_ns for path in (output / "samples").iterdir()}
    settings = (f"ckpt={checkpoint}", "split=train", "samples=3", f"output_dir={output}")
    done = run(output.parent, *settings, "batch_size=2")
    assert f"Resuming: {len(before)} of {len(before)} samples are done." in done.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before
    done = run(output.parent, *settings, "seed=1", code=2)
    assert "seed was 0, now 1" in done.stderr


def calibration(path: Path, samples: int, checkpoint: Path) -> Path:
    """Write a file like those of `evaluate`, from too few patients for 90 % intervals."""
    corrections = {measure: {"0.5": 0.1, "0.8": 0.75, "0.9": None} for measure in MEASURES}
    content = {"method": "ldm", "checkpoint": hash_file(checkpoint), "samples": samples, "slices": 12}
    content |= {"found_on": "validation split of DATA", "patients": 6, "corrections_mm": corrections}
    content["outline_band_factors"] = {"0.5": 0.8, "0.8": 1.5, "0.9": None}
    path.write_text(json.dumps(content))
    return path


def test_a_calibration_gives_each_height_an_interval(tmp_path, checkpoint):
    file = calibration(tmp_path / "calibration.json", 3, Path(checkpoint))
    settings = ("split=train", "samples=3", f"calibration={file}", "output_dir=out")
    done = run(tmp_path, f"ckpt={checkpoint}", *settings)
    assert "no corrected 90 % interval: it needs at least 9 validation patients" in done.stdout
    assert "no 90 % band of the outline: it needs at least 9 validation patients" in done.stdout
    assert "mm, 80 %: " in done.stdout
    samples = rows(tmp_path / "out" / "manifest.csv")
    for image in rows(tmp_path / "out" / "images.csv"):
        own = [row for row in samples if row["name"] == image["name"]]
        heights = [float(row["bone_height_mm"]) for row in own]
        assert {row["height_low_mm"] for row in own} == {image["height_low_mm"]}
        assert float(image["height_low_mm"]) == pytest.approx(min(heights) - 0.75)
        assert float(image["height_high_mm"]) == pytest.approx(max(heights) + 0.75)
    metrics = json.loads((tmp_path / "out" / "summary.json").read_text())["figures"]
    assert metrics["interval_level"] == metrics["band_level"] == 0.8
    assert {row["band_level"] for row in rows(tmp_path / "out" / "images.csv")} == {"0.8"}
    assert metrics["calibration"] == "validation split of DATA (6 patients)"
    done = run(tmp_path, f"ckpt={checkpoint}", "samples=2", f"calibration={file}", "output_dir=new", code=1)
    assert "fitted on 3 samples per slice, but there are 2 now" in done.stderr
    assert not (tmp_path / "new" / "samples").exists()


def test_nothing_of_the_users_is_overwritten(tmp_path, checkpoint):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.csv").write_text("mine")
    done = run(tmp_path, f"ckpt={checkpoint}", "output_dir=out", code=2)
    assert "manifest.csv" in done.stderr
    assert (tmp_path / "out" / "manifest.csv").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_a_signal_ended_resumes_to_the_same_bytes(tmp_path, result, checkpoint, signum):
    output, _ = result
    settings = (f"ckpt={checkpoint}", "split=train", "samples=3", "batch_size=4", "output_dir=out")
    process = subprocess.Popen(command(*settings), cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    manifest = tmp_path / "out" / "manifest.jsonl"
    while process.poll() is None and not (manifest.is_file() and len(manifest.read_text().splitlines()) > 2):
        time.sleep(0.002)
    process.send_signal(signum)
    assert process.wait(30) == (130 if signum == signal.SIGINT else -signum), process.communicate()[1]
    done = run(tmp_path, *settings)
    assert "samples are done" in done.stdout
    assert results(tmp_path / "out") == results(output)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["input_dir=."], "ckpt is not set"),
        (["ckpt=none.ckpt"], "there is no such checkpoint"),
        (["ckpt={checkpoint}", "input_dir=nowhere"], "input_dir=nowhere"),
        (["ckpt={checkpoint}", "input_dir="], "input_dir= is empty"),
        (["ckpt={checkpoint}", "input_dir={data}"], "input_dir={data}/dente"),
        (["ckpt={checkpoint}", "input_dir=.", "data.root=."], "one or the other"),
        (["ckpt={checkpoint}", "split=middle"], "expected one of train, val, test"),
        (["sampler=dpm"], "Did you mean ddpm? Available: ddim, ddpm, dpm_solver, euler, first_step, heun"),
        (["sampler=ddim", "sampler.eta=much"], "sampler.eta='much': expected a number"),
        (["ckpt={checkpoint}", "samples=0"], "expected 1 or more"),
        (["ckpt={checkpoint}", "steps=0"], "expected 1 or more"),
        (["ckpt={checkpoint}", "calibration=none.json"], "calibration=none.json: expected a file"),
        (["ckpt={checkpoint}", "steps=2000"], "this path has 1000 steps"),
        (["ckpt={checkpoint}", "guidance_scale=2"], "cannot be guided"),
        (["ckpt={checkpoint}", "precision=half"], "expected one of float32, tf32, bf16"),
        (["ckpt={checkpoint}", "precision=tf32", "accelerator=cpu"], "precision=tf32: only NVIDIA GPUs"),
        (["ckpt={checkpoint}", "sample=3"], "Did you mean samples?"),
    ],
)
def test_mistakes(tmp_path, checkpoint, data, arguments, named):
    filled = [text.format(checkpoint=checkpoint, data=data) for text in arguments]
    done = run(tmp_path, *filled, "output_dir=out", code=2)
    assert named.format(data=data) in done.stderr
    assert not (tmp_path / "out" / "manifest.jsonl").exists()


def test_a_regression_has_one_sample_and_no_sampler(tmp_path, data):
    network = {**TRANSLATOR["network"], "latent_channels": 1, "conditioning": "none"}
    model = {"_target_": "pti.modules.regression.Regression", "network": network}
    model |= {
        "normalization": TRANSLATOR["first_stage"]["normalization"],
        "optimizer": TRANSLATOR["optimizer"],
    }
    module = build(model, "the test")
    module.normalization.fit([tif.read(image.path).pixels for image in find_images(data)])
    save(tmp_path / "regression.ckpt", module, model, data)
    settings = ("ckpt=regression.ckpt", "samples=3", "num_samples=1", "output_dir=out")
    done = run(tmp_path, *settings)
    assert "Regression is deterministic: samples=1 instead of 3 per image." in done.stdout
    assert len(rows(tmp_path / "out" / "manifest.csv")) == 1
    done = run(tmp_path, "ckpt=regression.ckpt", "steps=5", code=2)
    assert "steps: Regression translates in one pass" in done.stderr


def test_a_checkpoint_of_another_kind_is_named(tmp_path, data):
    save(tmp_path / "other.ckpt", build(AUTOENCODER, "the test"), AUTOENCODER, data)
    done = run(tmp_path, "ckpt=other.ckpt", code=2)
    assert "found a checkpoint of AutoencoderKL" in done.stderr


def test_images_unlike_the_trainings_are_reported_before_the_work_and_in_the_summary(
    tmp_path, checkpoint, data
):
    images = tmp_path / "images"
    images.mkdir()
    for number, image in enumerate(find_images(data / "dente")[:4]):
        pixels = tif.read(image.path).pixels
        changed = [pixels / pixels.max(), pixels - 1024, pixels * 0, pixels][number]
        tif.write(images / f"{number}.tif", changed)
    settings = ("input_dir=images", "samples=1", "steps=1", "output_dir=out")
    done = run(tmp_path, f"ckpt={checkpoint}", *settings)
    warnings = json.loads((tmp_path / "out" / "summary.json").read_text())["warnings"]
    assert len(warnings) == 3
    for warning, name in zip(warnings, "210", strict=True):
        assert f"Warning: {warning}" in done.stderr
        assert f": {name}. " in warning
        assert "1 of 4 images" in warning


def test_a_full_disk_ends_with_one_message_and_the_same_command_resumes(
    tmp_path, result, checkpoint, monkeypatch
):
    settings = (f"ckpt={checkpoint}", "split=train", "samples=3", "batch_size=4", "output_dir=out")
    write, count = tif.write, 0

    def write_until_full(path: Path, *content: Any) -> None:
        nonlocal count
        count += 1
        if count > 5:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, *content)

    with monkeypatch.context() as patch:
        patch.setattr(tif, "write", write_until_full)
        done = run(tmp_path, *settings, code=1)
    assert "No space left on device" in done.stderr
    assert "MB free" in done.stderr
    assert f"output_dir={tmp_path / 'out'}" in done.stderr
    assert "samples are done" in run(tmp_path, *settings).stdout
    assert results(tmp_path / "out") == results(result[0])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_valid_utf8_are_translated(tmp_path, checkpoint, data):
    (tmp_path / "images").mkdir()
    name = os.fsdecode(b"1000_H\xe4_2021_02_545")
    shutil.copy(find_images(data / "dente")[0].path, tmp_path / "images" / f"{name}.tif")
    settings = (f"ckpt={checkpoint}", "input_dir=images", "samples=1", "steps=1", "output_dir=out")
    done = run(tmp_path, *settings)
    assert name in done.stdout
    assert (tmp_path / "out" / "samples" / f"{name}_s00.tif").is_file()
    assert (tmp_path / "out" / "pictures" / f"{name}.png").is_file()
    assert "1 of 1 samples are done" in run(tmp_path, *settings).stdout


@pytest.mark.slow
def test_any_encoding_of_the_output_is_enough(tmp_path, checkpoint, data):
    settings = (f"ckpt={checkpoint}", f"input_dir={data}/dente", "num_samples=2", "samples=2", "steps=1")
    done = subprocess.run(
        command(*settings, "output_dir=out"),
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert b"images.csv" in done.stdout


def test_a_png_is_translated_as_the_tif_of_its_values(checkpoint, data, tmp_path):
    source = sorted((data / "dente").iterdir())[0]
    pixels = np.clip(tif.read(source).pixels / 8, 0, 255).round().astype(np.uint8)
    for folder in ("png", "tif"):
        (tmp_path / folder).mkdir()
    Image.fromarray(pixels).save(tmp_path / "png" / f"{source.stem}.png")
    tif.write(tmp_path / "tif" / source.name, pixels, 0.3)
    for folder, more in (("png", ["pixel_mm=0.3"]), ("tif", [])):
        settings = (
            f"ckpt={checkpoint}",
            f"input_dir={tmp_path / folder}",
            "samples=2",
            f"output_dir=of_{folder}",
        )
        run(tmp_path, *settings, *more)
    assert results(tmp_path / "of_png") == results(tmp_path / "of_tif")
    assert rows(tmp_path / "of_png" / "images.csv") == rows(tmp_path / "of_tif" / "images.csv")
