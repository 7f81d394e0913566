"""Callbacks, tested without training."""

import math
import multiprocessing
import os
import random
import signal
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pti.train.callbacks import Interrupted, StopSignals
from pti.train.callbacks.checkpointing import improves
from pti.train.callbacks.finite import weights_are_finite
from pti.train.callbacks.metrics_csv import read_metrics, write_metrics
from pti.train.callbacks.progress import Clock, total_batches
from pti.train.callbacks.randomness import capture_generators, restore_generators, seed_generators


def test_signals_are_raised_then_held_then_handlers_restored():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as signals:
        with pytest.raises(Interrupted) as caught:
            signal.raise_signal(signal.SIGTERM)
        assert caught.value.exit_code == 143
        signals.hold()
        signal.raise_signal(signal.SIGINT)
        assert signals.received == signal.SIGINT
        signal.raise_signal(signal.SIGTERM)
        assert signals.received == signal.SIGINT
    assert signal.getsignal(signal.SIGTERM) is before


def _wait() -> None:
    time.sleep(60)


def test_workers_leave_signals_to_the_training_process():
    with StopSignals() as signals:
        signals.hold()
        worker = multiprocessing.get_context("fork").Process(target=_wait, daemon=True)
        worker.start()
        time.sleep(0.2)
        for signum in (signal.SIGINT, signal.SIGTERM):
            os.kill(worker.pid or 0, signum)
        time.sleep(0.3)
        assert worker.is_alive()
        worker.kill()
        worker.join()


def test_restored_generators_continue_their_sequence():
    def draw() -> list[Any]:
        return [random.random(), np.random.rand(), np.random.randn(), torch.rand(3).tolist()]  # noqa: NPY002

    seed_generators(3)
    draw()
    state = capture_generators()
    expected = draw()
    restore_generators(state)
    assert draw() == expected


def test_the_time_left_counts_all_epochs_and_validations():
    trainer: Any = SimpleNamespace(
        lightning_module=SimpleNamespace(accumulate_grad_batches=2),
        max_epochs=10,
        max_steps=-1,
        num_training_batches=20,
        enable_validation=True,
        val_check_batch=20,
        check_val_every_n_epoch=1,
        fit_loop=SimpleNamespace(
            epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(total=SimpleNamespace(ready=40)))
        ),
    )
    assert total_batches(trainer) == 200
    clock = Clock()
    clock.end_batch()
    clock.batch, clock.validation = 0.5, 3.0
    assert clock.left(trainer) == pytest.approx(160 * 0.5 + 8 * 3.0)
    trainer.max_steps = 30
    assert total_batches(trainer) == 60
    trainer.max_epochs, trainer.max_steps = -1, -1
    assert clock.left(trainer) is None


def test_infinite_weights_are_detected():
    module: Any = torch.nn.Linear(2, 2)
    assert weights_are_finite(module)
    module.bias.data[1] = torch.inf
    assert not weights_are_finite(module)


def test_metrics_survive_a_round_trip_exactly(tmp_path):
    rows = [
        {"epoch": 0.0, "step": 3.0, "train/a": 0.1 + 0.2},
        {"epoch": 1.0, "step": 6.0, "train/a": 1e-30, "val/b": 2.0},
    ]
    write_metrics(tmp_path / "metrics.csv", rows)
    assert read_metrics(tmp_path / "metrics.csv") == rows


def test_whole_numbers_are_written_without_a_decimal_point(tmp_path):
    write_metrics(tmp_path / "metrics.csv", [{"epoch": 0.0, "step": 3.0, "val/a": 0.5}])
    assert (tmp_path / "metrics.csv").read_text() == "epoch,step,val/a\n0,3,0.5\n"


def test_a_metric_of_nan_never_improves():
    assert not improves(math.nan, None, "min")
    assert improves(1.0, None, "min")
    assert not improves(-math.inf, 1.0, "min")
    assert improves(0.5, 1.0, "min")
    assert not improves(1.0, 1.0, "min")
    assert improves(1.5, 1.0, "max")
    assert not improves(0.5, 1.0, "max")
