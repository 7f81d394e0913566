"""Interruption of training at a given call of a hook, and exact comparison of runs."""

import signal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pti.runs.checkpoint import read
from pti.train.callbacks import Checkpointer
from pti.train.callbacks.metrics_csv import read_metrics


def stop_after(monkeypatch: pytest.MonkeyPatch, hook: str, count: int) -> None:
    """Send SIGTERM just before the ``count``-th call of the checkpointer's hook."""
    original, calls = getattr(Checkpointer, hook), [0]

    def hooked(self, trainer, *rest, **named):
        calls[0] += not trainer.sanity_checking
        if calls[0] == count and not trainer.sanity_checking:
            signal.raise_signal(signal.SIGTERM)
        return original(self, trainer, *rest, **named)

    monkeypatch.setattr(Checkpointer, hook, hooked)


def assert_equal(actual: Any, expected: Any, place: str) -> None:
    """Compare nested containers of tensors and values exactly."""
    assert type(actual) is type(expected), place
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys(), place
        for key in expected:
            assert_equal(actual[key], expected[key], f"{place}/{key}")
    elif isinstance(expected, (list, tuple)):
        assert len(actual) == len(expected), place
        for index, (one, other) in enumerate(zip(actual, expected, strict=True)):
            assert_equal(one, other, f"{place}/{index}")
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(actual, expected), place
    else:
        assert actual == expected, place


def assert_same_run(actual: Path, expected: Path) -> None:
    """Compare the last checkpoints and the metrics of two runs exactly."""
    one, other = (read(run / "checkpoints" / "last.ckpt") for run in (actual, expected))
    for ignored in ("config", "versions"):
        for content in (one, other):
            content.pop(ignored)
    assert_equal(one, other, "checkpoint")
    rows = [read_metrics(run / "metrics.csv") for run in (actual, expected)]
    assert rows[0] == rows[1]


def assert_steps_rise(run: Path) -> None:
    """Check that every TensorBoard curve has rising steps.

    TensorBoard reads files in the order of their names: second, process and a number. A test that resumes
    within the same second in the same process would need 10 to follow 9; these links are in order of writing.
    """
    with TemporaryDirectory() as folder:
        written = sorted((run / "tensorboard").iterdir(), key=lambda file: file.stat().st_mtime_ns)
        for number, file in enumerate(written):
            (Path(folder) / f"events.out.tfevents.{number:03d}").symlink_to(file)
        events = EventAccumulator(folder, size_guidance={"scalars": 0})
        events.Reload()
    for tag in events.Tags()["scalars"]:
        steps = [event.step for event in events.Scalars(tag)]
        assert steps == sorted(set(steps)), tag
