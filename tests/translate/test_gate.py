"""The gate of the command translate, with a reference that the checkpoint carries."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.in_process import rows, run_command
from helpers.tiny_checkpoints import save_translator
from pti.data import tif
from pti.data.input_images import find_images
from pti.data.phantom import make_phantom
from pti.train.callbacks import StopSignals
from pti.train.trust import store_trust
from pti.translate.__main__ import main

run = partial(run_command, main)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A checkpoint with a reference, one without, and a folder of two usual images and an inverted one."""
    root = tmp_path_factory.mktemp("gate")
    data = root / "phantom"
    make_phantom(data, patients=40, slices=1, image_size=64, seed=1)
    save_translator(root / "old.ckpt", data, batch_size=8)
    save_translator(root / "best.ckpt", data, batch_size=8)
    store_trust(root, torch.device("cpu"), 200, StopSignals())
    (root / "images").mkdir()
    usual = [tif.read(image.path).pixels for image in find_images(data / "dente")[:2]]
    foreign = np.where(usual[0] != 0, usual[0].max() + 1 - usual[0], 0)
    for name, pixels in zip("abc", (*usual, foreign), strict=True):
        tif.write(root / "images" / f"{name}.tif", pixels)
    return root


def settings(folder: Path, ckpt: str) -> tuple[str, ...]:
    return f"ckpt={folder / ckpt}", f"input_dir={folder / 'images'}", "samples=2", "steps=1"


def test_foreign_inputs_are_marked_in_tables_picture_and_terminal(tmp_path, folder):
    done = run(tmp_path, *settings(folder, "best.ckpt"), "output_dir=out")
    images = {row["name"]: row for row in rows(tmp_path / "out" / "images.csv")}
    assert [bool(images[name]["unlike_training"]) for name in "abc"] == [False, False, True]
    assert float(images["c"]["trust"]) < 0.01 < float(images["a"]["trust"])
    samples = rows(tmp_path / "out" / "manifest.csv")
    assert {row["unlike_training"] for row in samples if row["name"] == "c"} == {
        images["c"]["unlike_training"]
    }
    assert "1 of 3 images are unlike the training: c. images.csv says why." in done.stdout
    assert "c: height" in done.stdout
    assert (
        json.loads((tmp_path / "out" / "summary.json").read_text())["figures"]["images_unlike_training"] == 1
    )
    pictures = [np.asarray(Image.open(tmp_path / "out" / "pictures" / f"{name}.png")) for name in "ac"]
    assert [tuple(picture[0, 0]) == (255, 176, 32) for picture in pictures] == [False, True]
    assert len(pictures[1]) > len(pictures[0])


def test_strict_refuses_before_anything_is_translated(tmp_path, folder):
    done = run(tmp_path, *settings(folder, "best.ckpt"), "strict=true", "output_dir=out", code=1)
    assert "1 of 3 inputs are unlike those of the training:" in done.stderr
    assert "c: the intensities of the input" in done.stderr
    assert not (tmp_path / "out" / "samples").exists()
    (tmp_path / "images").mkdir()
    for name in "ab":
        (tmp_path / "images" / f"{name}.tif").write_bytes((folder / "images" / f"{name}.tif").read_bytes())
    run(tmp_path, f"ckpt={folder / 'best.ckpt'}", "input_dir=images", "samples=1", "strict=true", "steps=1")


def test_without_a_reference_one_note_says_so(tmp_path, folder):
    done = run(tmp_path, *settings(folder, "old.ckpt"), "output_dir=out")
    assert done.stdout.count("the checkpoint has no reference") == 1
    assert "trust" not in rows(tmp_path / "out" / "images.csv")[0]
    run(tmp_path, *settings(folder, "old.ckpt"), "strict=true", "output_dir=out2", code=2)


def test_a_resumed_run_keeps_its_verdicts(tmp_path, folder):
    run(tmp_path, *settings(folder, "best.ckpt"), "output_dir=out")
    before = rows(tmp_path / "out" / "images.csv")
    for picture in (tmp_path / "out" / "pictures").iterdir():
        picture.unlink()
    run(tmp_path, *settings(folder, "best.ckpt"), "output_dir=out")
    assert rows(tmp_path / "out" / "images.csv") == before
