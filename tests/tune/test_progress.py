"""Lines about running trials."""

import pytest

from pti.tune import progress
from pti.tune.progress import TrialProgress
from pti.tune.settings import Objective
from pti.tune.trial_run import TrialRun


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        ("epoch 1/2  batch 5/5  val/l1 0.6\n", "Trial 3: epoch 1/2  batch 5/5  val/l1 0.6\n"),
        ("epoch 2/2\nNext: python -m pti.reconstruct ckpt=a.ckpt\n", "Trial 3: ending\n"),
        ("", "Trial 3: starting\n"),
    ],
)
def test_a_running_trial_shows_where_its_training_is(tmp_path, capsys, monkeypatch, output, shown):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    run = TrialRun(3, tmp_path, [])
    run.log.write_text(output)
    TrialProgress([Objective("val/l1", "min")], trials=4, done=3, jobs=1).show([run])
    assert capsys.readouterr().err == shown
