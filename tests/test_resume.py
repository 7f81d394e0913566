"""A run that was interrupted and resumed ends with the same bits as one that was not."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pti.checkpoint import read
from pti.modules.callbacks import Checkpointer
from pti.modules.callbacks.metrics_csv import read_metrics
from pti.train import train
from training_setup import configuration, make_images

EPOCHS, BATCHES = 3, 6


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return make_images(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="module")
def uninterrupted(root, tmp_path_factory) -> dict[tuple[str, ...], Path]:
    """Finished runs, by their overrides."""
    return {}


def finished(root: Path, runs: dict[tuple[str, ...], Path], folder: Path, *overrides: str) -> Path:
    if overrides not in runs:
        assert train(configuration(root, folder, *overrides), folder) == 0
        runs[overrides] = folder
    return runs[overrides]


def stop_after(monkeypatch: pytest.MonkeyPatch, hook: str, count: int) -> None:
    """SIGTERM arrives just before the ``count``-th call of the checkpointer's hook."""
    original, calls = getattr(Checkpointer, hook), [0]

    def hooked(self, trainer, *rest, **named):
        calls[0] += not trainer.sanity_checking
        if calls[0] == count and not trainer.sanity_checking:
            signal.raise_signal(signal.SIGTERM)
        return original(self, trainer, *rest, **named)

    monkeypatch.setattr(Checkpointer, hook, hooked)


def assert_equal(found: Any, expected: Any, place: str) -> None:
    assert type(found) is type(expected), place
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), place
        for key in expected:
            assert_equal(found[key], expected[key], f"{place}/{key}")
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), place
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_equal(one, other, f"{place}/{index}")
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), place
    else:
        assert found == expected, place


def assert_same_run(found: Path, expected: Path) -> None:
    one, other = (read(run / "checkpoints" / "last.ckpt") for run in (found, expected))
    for ignored in ("config", "versions"):
        for content in (one, other):
            content.pop(ignored)
    assert_equal(one, other, "checkpoint")
    rows = [read_metrics(run / "metrics.csv") for run in (found, expected)]
    assert rows[0] == rows[1]


def assert_steps_rise(run: Path) -> None:
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    for tag in events.Tags()["scalars"]:
        steps = [event.step for event in events.Scalars(tag)]
        assert steps == sorted(set(steps)), tag


CUTS = [
    pytest.param("on_train_batch_end", 2, id="mid-epoch, before the discriminator"),
    pytest.param("on_train_batch_end", 8, id="mid-epoch, after the discriminator"),
    pytest.param("on_train_batch_end", BATCHES, id="last batch, before validation"),
    pytest.param("on_validation_batch_end", 1, id="in validation"),
    pytest.param("on_validation_end", 1, id="after validation"),
    pytest.param("on_train_epoch_end", 2, id="end of an epoch"),
]
VARIANTS = [
    pytest.param((), id="plain"),
    pytest.param(("data.num_workers=2", "data/augmentation=default"), id="workers", marks=pytest.mark.slow),
    pytest.param(("trainer.val_check_interval=2",), id="validation in the epoch"),
    pytest.param(("trainer.limit_val_batches=0", "callbacks.checkpointer.monitor=null"), id="no validation"),
    pytest.param(("trainer.max_steps=16",), id="max_steps"),
    pytest.param(("model.accumulate_grad_batches=3",), id="accumulation"),
]


@pytest.mark.parametrize(("hook", "count"), CUTS)
@pytest.mark.parametrize("overrides", VARIANTS)
def test_interrupted_run_ends_like_an_uninterrupted_one(
    root, uninterrupted, tmp_path_factory, tmp_path, monkeypatch, overrides, hook, count
):
    if "validation" in hook and "trainer.limit_val_batches=0" in overrides:
        pytest.skip("there is no validation")
    expected = finished(
        root, uninterrupted, tmp_path_factory.mktemp("whole"), "trainer.log_every_n_steps=1", *overrides
    )
    with monkeypatch.context() as patch:
        stop_after(patch, hook, count)
        assert (
            train(configuration(root, tmp_path, "trainer.log_every_n_steps=1", *overrides), tmp_path) == 143
        )
    last = tmp_path / "checkpoints" / "last.ckpt"
    again = configuration(root, tmp_path, "trainer.log_every_n_steps=1", *overrides, f"ckpt_path='{last}'")
    assert train(again, tmp_path) == 0
    assert_same_run(tmp_path, expected)
    assert_steps_rise(tmp_path)
