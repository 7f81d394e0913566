"""Checkpoints of format 1, written before names and keys changed: they are opened, applied and resumed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pti
from helpers.in_process import run_command
from pti.data import tif
from pti.data.phantom import make_phantom
from pti.runs.checkpoint import open_checkpoint, read
from pti.runs.renamed import FORMAT
from pti.train.__main__ import main as train
from pti.translate.__main__ import main as translate

FOLDER = Path(__file__).parent / "format_1"
STAGE_1, STAGE_2 = FOLDER / "stage_1.ckpt", FOLDER / "stage_2.ckpt"

SETTINGS = {
    STAGE_1: (
        "experiment=smoke",
        "model/perceptual=none",
        "model/extra_losses=[gradient]",
        "model.lr_schedule.decay=linear",
        "model.lr_schedule.final_factor=0.1",
    ),
    STAGE_2: (
        "experiment=smoke_ldm",
        "model/conditioning=concat",
        "model/path=condition_flow",
        "model/detail_transfer=gated",
        "model.network.channels=[4,4]",
        "model.network.attention_levels=[false,false]",
        "model.network.num_head_channels=4",
        "model.network.norm_num_groups=2",
        "model.change_loss_weight=2",
        "model.ema_decay=null",
    ),
}
"""Settings of the runs that wrote the checkpoints, in their present names."""


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    """Results of the program that wrote the checkpoints."""
    with np.load(FOLDER / "expected.npz") as file:
        return {name: file[name] for name in file.files}


def assert_close(image: Any, expected: np.ndarray) -> None:
    assert image.shape == expected.shape
    assert np.abs(image - expected).max() <= 1e-4 * np.ptp(expected)


def test_the_configuration_has_the_present_names():
    stage_1, stage_2 = open_checkpoint(STAGE_1).config, open_checkpoint(STAGE_2).config
    assert stage_1["allow_config_changes"] is stage_1["new_sweep"] is False
    assert stage_1["callbacks"]["checkpointer"]["_target_"] == "pti.train.callbacks.Checkpointer"
    assert stage_1["data"]["allow_config_changes"] is False
    assert stage_1["model"]["lr_schedule"]["final_factor"] == 0.1
    assert list(stage_1["model"]["extra_losses"]) == ["gradient"]
    assert stage_2["model"]["change_loss_weight"] == 2
    assert stage_2["model"]["path"]["prediction_type"] == "velocity"


def test_an_image_is_reconstructed(expected: dict[str, np.ndarray]):
    assert_close(pti.load(STAGE_1, "cpu").reconstruct(expected["image"]), expected["reconstruction"])


def test_an_image_is_translated(expected: dict[str, np.ndarray]):
    translations = pti.load(STAGE_2, "cpu").translate(expected["image"], samples=1, seed=3, names=["a"])
    assert_close(translations[0], expected["translation"])


@pytest.mark.slow
def test_the_command_translates(expected: dict[str, np.ndarray], tmp_path: Path):
    (tmp_path / "images").mkdir()
    tif.write(tmp_path / "images" / "a.tif", expected["image"], 0.6)
    settings = ("input_dir=images", "output_dir=out", "accelerator=cpu", "samples=1", "seed=3")
    run_command(translate, tmp_path, f"ckpt='{STAGE_2}'", *settings)
    (path,) = (tmp_path / "out").rglob("a_s00.tif")
    assert_close(tif.read(path).pixels, expected["translation"])


DEFAULTS = {
    STAGE_1: ("model/reconstruction=l1", "model.normalization.bright_limit=null"),
    STAGE_2: ("model.detail_transfer.tolerance=0.2", "model.detail_transfer.by_region=false"),
}
"""Settings that were the defaults when the checkpoints were written, and no longer are."""


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", [STAGE_1, STAGE_2], ids=["stage_1", "stage_2"])
def test_training_is_resumed(checkpoint: Path, tmp_path: Path):
    settings = (
        "data.root=phantom",
        "trainer.max_epochs=2",
        "trainer=cpu",
        "logger=csv",
        "callbacks.pictures=null",
    )
    make_phantom(tmp_path / "phantom", patients=4, slices=2, image_size=64)
    overrides = (*SETTINGS[checkpoint], *settings, *DEFAULTS[checkpoint], "output_dir=run")
    overrides = (*overrides, f"ckpt_path='{checkpoint}'")
    run_command(train, tmp_path, *overrides)
    before, after = read(checkpoint), read(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert (before["epoch"], after["epoch"]) == (0, 1)
    assert after["batches_done"] == 2 * before["batches_done"]
    assert after["format"] == FORMAT
