"""The command reconstruct with tiny random weights: its files, resuming, mistakes."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.in_process import Done, rows, run_command
from helpers.tiny_checkpoints import AUTOENCODER, LAYOUT, VAE, save
from pti.common.errors import UsageError
from pti.data import tif
from pti.data.input_images import find_images
from pti.data.phantom import make_phantom
from pti.data.splits import open_folders
from pti.inference import reconstructions
from pti.reconstruct.__main__ import main
from pti.runs.constructors import build
from pti.runs.manifest import Manifest


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "phantom"
    make_phantom(root, patients=6, slices=1, image_size=64, seed=1)
    return root


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, data) -> Path:
    torch.manual_seed(0)
    module = build(VAE, "the test")
    module.normalization.fit([tif.read(image.path).pixels for image in find_images(data / "edente")])
    return save(tmp_path_factory.mktemp("run") / "best.ckpt", module, VAE, data, sources="target")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pti.reconstruct", *arguments]


run = partial(run_command, main)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Create images of several sizes in subfolders, one of them without a resolution tag."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name, shape, pixel_mm in (
        ("dente/1000_HA_2021_02_545", (40, 48), 0.2),
        ("edente/1000_HA_2021_02_545", (40, 48), 0.2),
        ("edente/small", (32, 32), None),
    ):
        pixels = np.zeros(shape, np.float32)
        pixels[6:-6, 8:-8] = rng.uniform(800, 1500, (shape[0] - 12, shape[1] - 16))
        (root / name).parent.mkdir(exist_ok=True)
        tif.write(root / f"{name}.tif", pixels, pixel_mm)
    return root


@pytest.fixture(scope="module")
def result(tmp_path_factory, checkpoint, folder) -> tuple[Path, Done]:
    output = tmp_path_factory.mktemp("result") / "out"
    return output, run(output.parent, f"ckpt={checkpoint}", f"input_dir={folder}", f"output_dir={output}")


def test_writes_each_image_at_its_own_size_and_resolution(result, folder):
    output, _ = result
    for image in find_images(folder):
        original, reconstructed = (
            tif.read(image.path),
            tif.read(output / "reconstructions" / f"{image.name}.tif"),
        )
        assert reconstructed.pixels.shape == original.pixels.shape
        assert (
            reconstructed.pixel_mm == pytest.approx(original.pixel_mm)
            if original.pixel_mm
            else reconstructed.pixel_mm is None
        )
        assert reconstructed.stored_dtype == "float32"
        beside = tif.read(output / "comparisons" / f"{image.name}.tif").pixels
        expected = [original.pixels, reconstructed.pixels, reconstructed.pixels - original.pixels]
        assert np.array_equal(beside, np.concatenate(expected, axis=1))


def test_pictures_are_not_black(result, folder):
    output, _ = result
    for image in find_images(folder):
        picture = np.asarray(Image.open(output / "comparisons" / f"{image.name}.png").convert("L"))
        panel = picture[:, : picture.shape[1] // 3]
        assert np.mean(panel > 100) > 0.2


def test_table_and_summary(result):
    output, done = result
    table = rows(output / "metrics.csv")
    assert [row["name"] for row in table] == [
        "dente/1000_HA_2021_02_545",
        "edente/1000_HA_2021_02_545",
        "edente/small",
    ]
    assert [row["patient"] for row in table] == ["545", "545", ""]
    summary = json.loads((output / "summary.json").read_text())
    psnr = [float(row["psnr"]) for row in table]
    assert summary["figures"]["psnr"] == pytest.approx(np.mean(psnr))
    assert summary["figures"]["worst psnr"].endswith(table[int(np.argmin(psnr))]["name"])
    assert summary["figures"]["data_range"] > 0
    assert "worst" in done.stdout


def test_a_finished_run_is_not_repeated_and_other_settings_are_refused(result, checkpoint, folder):
    output, _ = result
    settings = (f"ckpt={checkpoint}", f"output_dir={output}")
    image = output / "reconstructions" / "edente" / "small.tif"
    before = image.stat().st_mtime_ns
    done = run(output.parent, *settings, f"input_dir={folder}")
    assert "Resuming: 3 of 3 images are done." in done.stdout
    assert image.stat().st_mtime_ns == before
    done = run(output.parent, *settings, f"input_dir={folder}/edente", code=2)
    assert "results of other settings" in done.stderr


def test_nothing_of_the_users_is_overwritten(tmp_path, checkpoint, folder):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metrics.csv").write_text("mine")
    done = run(tmp_path, f"ckpt={checkpoint}", f"input_dir={folder}", "output_dir=out", code=2)
    assert "metrics.csv" in done.stderr
    assert (tmp_path / "out" / "metrics.csv").read_text() == "mine"


def test_the_split_is_the_one_of_training(tmp_path, checkpoint, data):
    run(tmp_path, f"ckpt={checkpoint}", "split=val", "output_dir=out")
    expected = open_folders(data, build(LAYOUT, "the test"), (0.5, 0.25, 0.25), 3, {})[0].numbered("val")
    assert [row["name"] for row in rows(tmp_path / "out" / "metrics.csv")] == [
        pair.name for _, pair in expected
    ]


def test_both_sources_of_another_root_with_a_limit(tmp_path, checkpoint, data):
    settings = ["split=train", f"data.root={data}", "data.sources=both", "num_samples=2", "batch_size=1"]
    run(tmp_path, f"ckpt={checkpoint}", *settings, "output_dir=out")
    table = rows(tmp_path / "out" / "metrics.csv")
    assert len(table) == 2
    assert all(row["name"].startswith("dente/") and row["patient"] for row in table)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processors")
@pytest.mark.slow
def test_two_processes_write_the_same_images(tmp_path, result, checkpoint, folder):
    output, _ = result
    settings = ("accelerator=cpu", "devices=2", "batch_size=1", "output_dir=out")
    run(tmp_path, f"ckpt={checkpoint}", f"input_dir={folder}", *settings)
    for image in find_images(folder):
        one, two = (
            tif.read(root / "reconstructions" / f"{image.name}.tif").pixels
            for root in (output, tmp_path / "out")
        )
        assert np.abs(one - two).max() <= 1e-4 * one.max()


@pytest.mark.slow
def test_a_run_that_ctrl_c_ended_resumes(tmp_path, checkpoint, data):
    settings = (f"ckpt={checkpoint}", f"input_dir={data}", "output_dir=out", "batch_size=1")
    process = subprocess.Popen(command(*settings), cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    manifest = tmp_path / "out" / "manifest.jsonl"
    while process.poll() is None and not (manifest.is_file() and len(manifest.read_text().splitlines()) > 2):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130, process.communicate()[1]
    done = run(tmp_path, *settings)
    assert "of 12 images are done" in done.stdout
    assert len(rows(tmp_path / "out" / "metrics.csv")) == 12


def test_all_bad_files_are_named_at_once(tmp_path, checkpoint, folder):
    images = tmp_path / "images"
    images.mkdir()
    good = (folder / "edente" / "small.tif").read_bytes()
    (images / "good.tif").write_bytes(good)
    (images / "half.tif").write_bytes(good[: len(good) // 2])
    (images / "text.tif").write_text("no image")
    done = run(tmp_path, f"ckpt={checkpoint}", "input_dir=images", "output_dir=out", code=1)
    assert "2 of 3 images can't be used" in done.stderr
    assert "half.tif" in done.stderr
    assert "text.tif" in done.stderr
    assert "good.tif" not in done.stderr
    assert not (tmp_path / "out" / "reconstructions").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["input_dir=."], "ckpt is not set"),
        (["ckpt=none.ckpt"], "there is no such checkpoint"),
        (["ckpt={checkpoint}", "input_dir=nowhere"], "input_dir=nowhere"),
        (["ckpt={checkpoint}", "input_dir=.", "data.root=."], "one or the other"),
        (["ckpt={checkpoint}", "split=middle"], "expected one of train, val, test"),
        (["ckpt={checkpoint}", "batch_size=0"], "expected 1 or more"),
        (["ckpt={checkpoint}", "inputdir=."], "Did you mean input_dir?"),
    ],
)
def test_mistakes(tmp_path, checkpoint, arguments, named):
    done = run(tmp_path, *(text.format(checkpoint=checkpoint) for text in arguments), code=2)
    assert named in done.stderr


def test_a_checkpoint_of_another_kind_is_named(tmp_path):
    save(tmp_path / "other.ckpt", build(AUTOENCODER, "the test"), AUTOENCODER, tmp_path)
    (tmp_path / "images").mkdir()
    done = run(tmp_path, "ckpt=other.ckpt", "input_dir=images", code=2)
    assert "found a checkpoint of AutoencoderKL" in done.stderr


def test_manifest_drops_a_torn_line_and_notices_changed_inputs(tmp_path):
    image, written = tmp_path / "a.tif", tmp_path / "out" / "a.tif"
    image.write_text("1")
    with Manifest(tmp_path / "out", {"a": 1}, ["a.tif"]) as manifest:
        written.write_text("result")
        manifest.add("a", image, [written], {"psnr": 30.0})
    with open(tmp_path / "out" / "manifest.jsonl", "a") as file:
        file.write('{"name": "b", "inp')
    with Manifest(tmp_path / "out", {"a": 1}, ["a.tif"]) as manifest:
        assert manifest.is_done("a", image)
        assert manifest.rows["a"]["figures"] == {"psnr": 30.0}
        manifest.add("b", image, [written], {})
    assert len((tmp_path / "out" / "manifest.jsonl").read_text().splitlines()) == 3
    image.write_text("other")
    with Manifest(tmp_path / "out", {"a": 1}, ["a.tif"]) as manifest:
        assert not manifest.is_done("a", image)
    with pytest.raises(UsageError, match="a was 1, now 2"):
        Manifest(tmp_path / "out", {"a": 2}, ["a.tif"])


def test_images_in_another_unit_are_reported(tmp_path, checkpoint, folder):
    (tmp_path / "images").mkdir()
    pixels = tif.read(folder / "edente" / "small.tif").pixels
    tif.write(tmp_path / "images" / "a.tif", pixels / 1500)
    done = run(tmp_path, f"ckpt={checkpoint}", "input_dir=images", "output_dir=out")
    (warning,) = json.loads((tmp_path / "out" / "summary.json").read_text())["warnings"]
    assert "1 of 1 images, the intensities are unlike the training's: a. " in warning
    assert f"Warning: {warning}" in done.stderr


def test_an_image_too_small_for_the_metrics_is_named(tmp_path, checkpoint, folder):
    (tmp_path / "images").mkdir()
    tif.write(tmp_path / "images" / "tiny.tif", np.ones((10, 40), np.float32))
    done = run(tmp_path, f"ckpt={checkpoint}", "input_dir=images", "output_dir=out", code=1)
    assert "tiny.tif: found 10 × 40 pixels, expected at least 11 × 11" in done.stderr


def test_a_full_disk_ends_with_one_message(tmp_path, checkpoint, folder, monkeypatch):
    def fail(picture: object, path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(reconstructions, "save_picture", fail)
    done = run(tmp_path, f"ckpt={checkpoint}", f"input_dir={folder}", "output_dir=out", code=1)
    assert ".png: the disk is full (No space left on device; " in done.stderr
