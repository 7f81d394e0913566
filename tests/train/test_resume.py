"""An interrupted and resumed run is bit-identical to an uninterrupted one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.trainer.connectors import accelerator_connector

from helpers.resumed_runs import assert_equal, assert_same_run, assert_steps_rise, stop_after
from helpers.training_setup import configuration
from pti.runs.checkpoint import read
from pti.train.callbacks.metrics_csv import read_metrics
from pti.train.run import train

EPOCHS, BATCHES = 3, 6


@pytest.fixture(scope="module")
def uninterrupted(root, tmp_path_factory) -> dict[tuple[str, ...], Path]:
    """Collect finished runs by their overrides."""
    return {}


def finished(root: Path, runs: dict[tuple[str, ...], Path], folder: Path, *overrides: str) -> Path:
    if overrides not in runs:
        assert train(configuration(root, folder, *overrides), folder) == 0
        runs[overrides] = folder
    return runs[overrides]


CUTS = {
    "mid-epoch, before the discriminator": ("on_train_batch_end", 2),
    "mid-epoch, after the discriminator": ("on_train_batch_end", 8),
    "last batch, before validation": ("on_train_batch_end", BATCHES),
    "in validation": ("on_validation_batch_end", 1),
    "last batch of the last epoch": ("on_train_batch_end", EPOCHS * BATCHES),
    "in the last validation": ("on_validation_batch_end", EPOCHS),
    "after validation": ("on_validation_end", 1),
    "end of an epoch": ("on_train_epoch_end", 2),
}
QUICK = [
    "mid-epoch, before the discriminator",
    "mid-epoch, after the discriminator",
    "in validation",
    "end of an epoch",
]
VARIANTS = {
    "default": (),
    "workers": ("data.num_workers=2", "data/augmentation=mild"),
    "validation in the epoch": ("trainer.val_check_interval=2",),
    "no validation": ("trainer.limit_val_batches=0", "callbacks.checkpointer.monitor=null"),
    "max_steps": ("trainer.max_steps=16",),
    "attributes": ("model/attributes=bone_sizes",),
    "accumulation": ("model.accumulate_grad_batches=3",),
}
CASES = [
    pytest.param(
        *CUTS[cut],
        VARIANTS[variant],
        id=f"{variant}: {cut}",
        marks=[] if variant == "default" and cut in QUICK else [pytest.mark.slow],
    )
    for variant in VARIANTS
    for cut in CUTS
    if not (variant == "no validation" and "validation" in CUTS[cut][0])
    if not (variant == "max_steps" and cut in ("last batch of the last epoch", "in the last validation"))
]


@pytest.mark.parametrize(("hook", "count", "overrides"), CASES)
def test_interrupted_run_ends_like_an_uninterrupted_one(
    root, uninterrupted, tmp_path_factory, tmp_path, monkeypatch, overrides, hook, count
):
    settings = ("trainer.log_every_n_steps=1", *overrides)
    expected = finished(root, uninterrupted, tmp_path_factory.mktemp("whole"), *settings)
    with monkeypatch.context() as patch:
        stop_after(patch, hook, count)
        assert train(configuration(root, tmp_path, *settings), tmp_path) == 143
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert train(configuration(root, tmp_path, *settings, f"ckpt_path='{last}'"), tmp_path) == 0
    assert_same_run(tmp_path, expected)
    assert_steps_rise(tmp_path)


class Scaled(MixedPrecision):
    """Scaled losses as for 16-bit floats, computed in float32; the scale changes every 3 steps."""

    def __init__(self, *_: Any) -> None:
        super().__init__("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=16.0, growth_interval=3))  # pyright: ignore

    def autocast_context_manager(self) -> torch.autocast:
        return torch.autocast("cpu", enabled=False)


@pytest.mark.slow
def test_the_scaler_of_16_bit_floats_is_restored(root, tmp_path, monkeypatch):
    monkeypatch.setattr(accelerator_connector, "MixedPrecision", Scaled)
    whole, cut, settings = tmp_path / "whole", tmp_path / "cut", ("trainer.precision=bf16-mixed",)
    assert train(configuration(root, whole, *settings), whole) == 0
    with monkeypatch.context() as patch:
        stop_after(patch, "on_train_batch_end", 8)
        assert train(configuration(root, cut, *settings), cut) == 143
    last = cut / "checkpoints" / "last.ckpt"
    assert read(last)["Scaled"]["scale"] > 16
    assert train(configuration(root, cut, *settings, f"ckpt_path='{last}'"), cut) == 0
    assert_same_run(cut, whole)


@pytest.mark.slow
def test_resumed_twice_ends_like_resumed_once(root, uninterrupted, tmp_path_factory, tmp_path, monkeypatch):
    settings = ("trainer.log_every_n_steps=1",)
    expected = finished(root, uninterrupted, tmp_path_factory.mktemp("whole"), *settings)
    last, resume = tmp_path / "checkpoints" / "last.ckpt", ()
    for hook, count in (("on_train_batch_end", 3), ("on_train_batch_end", 2), ("on_validation_batch_end", 1)):
        with monkeypatch.context() as patch:
            stop_after(patch, hook, count)
            assert train(configuration(root, tmp_path, *settings, *resume), tmp_path) == 143
        resume = (f"ckpt_path='{last}'",)
    assert train(configuration(root, tmp_path, *settings, *resume), tmp_path) == 0
    assert_same_run(tmp_path, expected)
    assert_steps_rise(tmp_path)


@pytest.mark.slow
def test_a_shorter_limit_can_be_raised(root, uninterrupted, tmp_path_factory, tmp_path):
    expected = finished(root, uninterrupted, tmp_path_factory.mktemp("whole"), "trainer.log_every_n_steps=1")
    steps = ("trainer.log_every_n_steps=1", "trainer.max_steps")
    assert train(configuration(root, tmp_path, steps[0], f"{steps[1]}=9"), tmp_path) == 0
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert train(configuration(root, tmp_path, steps[0], f"ckpt_path='{last}'"), tmp_path) == 0
    one, other = (read(run / "checkpoints" / "last.ckpt") for run in (tmp_path, expected))
    for part in ("state_dict", "optimizer_states", "rng"):
        assert_equal(one[part], other[part], part)
    assert read_metrics(tmp_path / "metrics.csv") == read_metrics(expected / "metrics.csv")
    assert_steps_rise(tmp_path)
