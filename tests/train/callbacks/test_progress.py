"""Time left of a training."""

from types import SimpleNamespace
from typing import Any

import pytest

from pti.train.callbacks.progress import Clock, total_batches


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


def test_a_validation_that_is_due_or_running_takes_time(monkeypatch: pytest.MonkeyPatch):
    now = [100.0]
    monkeypatch.setattr("pti.train.callbacks.progress.time.monotonic", lambda: now[0])
    progress = SimpleNamespace(total=SimpleNamespace(ready=60))
    trainer: Any = SimpleNamespace(
        lightning_module=SimpleNamespace(accumulate_grad_batches=1),
        max_epochs=3,
        max_steps=-1,
        num_training_batches=20,
        num_val_batches=[4],
        enable_validation=True,
        val_check_batch=20,
        check_val_every_n_epoch=1,
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)),
    )
    clock = Clock()
    clock.end_batch()
    clock.batch, clock.validation = 0.5, 8.0
    assert clock.left(trainer, after_batch=True) == pytest.approx(8.0)
    clock.start()
    now[0] += 5
    clock.in_validation(1, 4)
    assert clock.left(trainer) == pytest.approx(15.0)
    clock.end_validation()
    assert clock.left(trainer) == 0
    trainer.check_val_every_n_epoch = 5
    assert clock.left(trainer, after_batch=True) == 0
