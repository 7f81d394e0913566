"""The forecast: what it says, when, and that it leaves no trace in the training."""

import json

import pytest

from helpers.training_setup import configuration
from pti.train.run import train


@pytest.fixture
def forecast(root, tmp_path, capfd):
    def run(*overrides: str) -> tuple[str, dict, set[str]]:
        out = tmp_path / "out"
        out.mkdir()
        assert train(configuration(root, out, *overrides), out) == 0
        summary = json.loads((out / "summary.json").read_text())
        printed = capfd.readouterr()
        checkpoints = {path.name for path in (out / "checkpoints").glob("*.ckpt")}
        return printed.out + printed.err, summary, checkpoints

    return run


LONG = ("trainer.max_epochs=500", "data.batch_size=1")


def test_a_forecast_ends_after_some_batches_and_adds_up(forecast):
    printed, summary, checkpoints = forecast(*LONG, "forecast=true")
    assert summary["status"] == "forecast"
    assert not checkpoints
    values = summary["figures"]
    assert values["steps"] == 13
    assert values["forecast/seconds"] > 500 * values["forecast/seconds_per_epoch"] > 0
    assert 0.05 < values["forecast/memory_gb"] < 20
    assert 0 < values["forecast/checkpoints_gb"] < 0.1
    assert "for the whole training" in printed
    assert "of disk are free" in printed


def test_a_training_without_an_end_has_no_total(forecast):
    printed, summary, _ = forecast("trainer.max_epochs=-1", "data.batch_size=1", "forecast=true")
    assert summary["figures"]["forecast/seconds"] is None
    assert "no end is set" in printed


def test_a_training_shorter_than_a_forecast_is_done(forecast):
    printed, summary, checkpoints = forecast("trainer.max_epochs=1", "forecast=true")
    assert "the training has run to its end" in printed
    assert summary["status"] == "finished"
    assert "last.ckpt" in checkpoints


def test_short_trainings_get_no_forecast(forecast):
    printed, summary, _ = forecast("trainer.max_epochs=2", "data.batch_size=1")
    assert "for a batch" not in printed
    assert summary["figures"]["forecast/seconds_per_epoch"] > 0
