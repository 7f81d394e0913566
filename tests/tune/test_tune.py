"""The command ``tune``: its trials, its files, and what happens when it is stopped or a trial fails."""

import contextlib
import json
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import helpers.toy_training
from helpers import training_setup
from helpers.in_process import rows, run_command
from pti.cli.overrides import check_command_line
from pti.cli.path_values import quote_paths
from pti.common.conf_dir import CONF_DIR
from pti.common.errors import UsageError
from pti.tune.__main__ import main, preflight
from pti.tune.trial_run import PROGRAM

KL = "+space.model.kl_weight={low:1e-8,high:1e-3,log:true}"
LOSS = "+space.model.reconstruction=[l1,l2]"
BASE = ["experiment=smoke", KL, LOSS, "trainer=cpu", "trainer.max_epochs=4", "random_trials=3"]
TOY = helpers.toy_training.__file__
SCRIPT = """
import sys
import pti.tune.trial_run
from pti.tune.__main__ import main
pti.tune.trial_run.PROGRAM = (sys.argv.pop(1),)
main()
"""


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    """Let trials run the toy in place of `train`."""
    monkeypatch.setattr("pti.tune.trial_run.PROGRAM", (TOY,))


@pytest.fixture
def tune(tmp_path):
    def run(*arguments, code=0, base=BASE):
        return run_command(main, tmp_path, *base, *arguments, code=code)

    return run


@pytest.fixture
def refusal(tmp_path, monkeypatch):
    """Check a command line, which has to be refused, and return the message."""
    monkeypatch.chdir(tmp_path)

    def check(*arguments):
        with pytest.raises(UsageError) as refused:
            check_command_line("tune", arguments, preflight)
        return str(refused.value)

    return check


def outcome(folder):
    """Return what an interruption must not change: all but the times."""
    return [
        {key: cell for key, cell in row.items() if key != "seconds"} for row in rows(folder / "trials.csv")
    ]


def break_trials(folder: Path, **trouble: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "broken").write_text(json.dumps(trouble))


def test_a_search_leaves_tables_a_page_and_an_experiment(tune, tmp_path):
    done = tune("trials=7", "output_dir=s", "prune_after_trials=2")
    trials = rows(tmp_path / "s" / "trials.csv")
    assert [row["trial"] for row in trials] == list("0123456")
    (best,) = [row for row in trials if row["best"]]
    finished = [row for row in trials if row["status"] == "finished"]
    assert float(best["val/l1"]) == min(float(row["val/l1"]) for row in finished)
    assert {row["status"] for row in trials} == {"finished", "pruned"}
    summary = json.loads((tmp_path / "s" / "summary.json").read_text())
    assert summary["figures"]["best trial"] == int(best["trial"])
    assert summary["figures"]["model.kl_weight"] == float(best["model.kl_weight"])
    page = (tmp_path / "s" / "tune.html").read_text()
    assert "A smaller KL weight usually lowers val/l1" in page
    assert all(f'href="trial_{number:03d}/"' in page for number in range(7))
    assert "http" not in page.replace("http://www.w3.org", "")
    assert page.count("<svg") >= 3
    assert done.stdout.rstrip().endswith("Next: python -m pti.train --config-dir s experiment=smoke_tuned")


OVERRIDES = [
    *("data.root=~/données", "model.ema_decay=null", "model.autoencoder.channels=[4,8]", "seed=3"),
    *("model/extra_losses=[gradient,focal_frequency]", "data/augmentation=mild", "logger=csv"),
    *(
        "model/optimizer@model.generator_optimizer=adamw",
        "callbacks.pictures=null",
        "+trainer.profiler=simple",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [[], OVERRIDES])
def test_the_experiment_is_the_configuration_of_the_best_trial(tune, tmp_path, overrides):
    """Compose both as `train` does."""
    (tmp_path / "données").mkdir()
    overrides = [text.replace("~", str(tmp_path)) for text in overrides]
    tune("trials=2", "output_dir=s", *overrides)
    (best,) = [row for row in rows(tmp_path / "s" / "trials.csv") if row["best"]]
    searched = [f"{key}={best[key]}" for key in ("model.kl_weight", "model/reconstruction")]
    given = ["experiment=smoke", "trainer=cpu", "trainer.max_epochs=4", *overrides, *searched]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        expected = compose("train", quote_paths([*given, "output_dir=x"], sweep=False))
        path = f"hydra.searchpath=[file://{tmp_path / 's'}]"
        found = compose("train", ["experiment=smoke_tuned", "output_dir=x", path])
    assert OmegaConf.to_container(found, resolve=True) == OmegaConf.to_container(expected, resolve=True)


@pytest.mark.slow
@pytest.mark.usefixtures("without_plots")
def test_more_trials_continue_a_finished_search(tune, tmp_path):
    tune("trials=3", "output_dir=s")
    first = outcome(tmp_path / "s")
    assert "all 3 trials are done" in tune("trials=3", "output_dir=s").stdout
    tune("trials=5", "output_dir=s")
    tune("trials=5", "output_dir=whole")
    assert [row | {"best": ""} for row in outcome(tmp_path / "s")[:3]] == [
        row | {"best": ""} for row in first
    ]
    assert outcome(tmp_path / "s") == outcome(tmp_path / "whole")


DIFFERENCES = {
    "model.kl_weight=1e-3": "model.kl_weight: 1e-06 in the search, now 0.001",
    "trainer.max_epochs=5": "trainer.max_epochs: 4 in the search, now 5",
    "experiment=vae_demo": "experiment: smoke in the search, now vae_demo",
    "space.model.kl_weight.high=1e-2": "space.model.kl_weight: 1e-08 to 0.001, log in the search, now 1e-08",
    "objectives={val/kl:min}": "objectives.val/l1: min in the search, now absent",
    "seed=1": "seed: 0 in the search, now 1",
}  # fmt: skip


@pytest.mark.usefixtures("without_plots")
def test_another_search_in_the_folder_is_refused(tune, refusal, tmp_path):
    tune("trials=1", "output_dir=s")
    for change, difference in DIFFERENCES.items():
        assert difference in refusal(*BASE, "trials=2", "output_dir=s", change)


@pytest.mark.slow
def test_changed_data_and_other_results_are_refused(tune, tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    (root / "a.tif").write_text("an image")
    tune("trials=1", "output_dir=s", f"data.root={root}")
    (root / "a.tif").write_text("another image")
    assert "the data set has changed" in tune("trials=2", "output_dir=s", f"data.root={root}", code=2).stderr
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "summary.json").write_text("{}")
    assert "results of another command" in tune("output_dir=other", code=2).stderr


@pytest.mark.usefixtures("without_plots")
def test_trials_that_fail_are_recorded_and_the_search_continues(tune, tmp_path):
    reasons = {
        "diverged": "loss is not finite after batch 3.",
        "collapsed": "its outputs are all alike",
        "killed": "ended by SIGKILL from outside",
        "nan": "val/l1 is not a finite number",
    }
    break_trials(
        tmp_path / "s", trial_001="diverged", trial_002="collapsed", trial_004="killed", trial_005="nan"
    )
    tune("trials=7", "output_dir=s", "pruning=none")
    trials = rows(tmp_path / "s" / "trials.csv")
    expected = ["finished", "failed", "collapsed", "finished", "failed", "failed", "finished"]
    assert [row["status"] for row in trials] == expected
    assert [row["reason"] for row in trials if row["reason"]] == list(reasons.values())
    page = (tmp_path / "s" / "tune.html").read_text()
    assert all(reason in page for reason in reasons.values())


@pytest.mark.slow
def test_failures_in_succession_end_the_search_and_it_continues(tune, tmp_path):
    break_trials(tmp_path / "s", all="diverged")
    done = tune("trials=9", "output_dir=s", code=1)
    assert "The last 5 trials failed or collapsed, the last one because: loss is not finite" in done.stderr
    assert json.loads((tmp_path / "s" / "summary.json").read_text())["status"] == "failed"
    (tmp_path / "s" / "broken").unlink()
    tune("trials=9", "output_dir=s")
    assert [row["status"] == "failed" for row in rows(tmp_path / "s" / "trials.csv")] == [True] * 5 + [
        False
    ] * 4


@pytest.mark.slow
def test_a_training_that_cannot_begin_is_the_searchs_own_error(tune, tmp_path):
    break_trials(tmp_path / "s", all="usage")
    done = tune("trials=3", "output_dir=s", code=2)
    assert "trial 0 can't be trained: data.root: expected a folder" in done.stderr
    (tmp_path / "s" / "broken").unlink()
    tune("trials=3", "output_dir=s")
    tune("trials=3", "output_dir=whole")
    assert outcome(tmp_path / "s") == outcome(tmp_path / "whole")


@pytest.mark.usefixtures("without_plots")
def test_several_objectives(tune, tmp_path):
    done = tune("trials=6", "output_dir=s", "objectives={val/l1: min, val/kl: min}")
    assert "usually lowers" not in done.stdout
    trials = rows(tmp_path / "s" / "trials.csv")
    assert {row["status"] for row in trials} == {"finished"}  # nothing is pruned
    best = [row for row in trials if row["best"]]
    assert len(best) > 1
    for row in best:
        assert not any(
            float(other["val/l1"]) < float(row["val/l1"]) and float(other["val/kl"]) < float(row["val/kl"])
            for other in trials
        )
    files = {path.stem for path in (tmp_path / "s" / "experiment").iterdir()}
    assert files == {f"smoke_tuned_{int(row['trial']):03d}" for row in best}
    assert done.stdout.rstrip().split("experiment=")[-1] in files


@pytest.mark.slow
@pytest.mark.usefixtures("without_plots")
def test_a_pruned_trial_whose_end_was_not_recorded_is_pruned_again(tune, tmp_path):
    """Take back the end of the last trial, as if the search had been killed just before it."""
    tune("trials=7", "output_dir=s", "prune_after_trials=2")
    pruned = [row["trial"] for row in rows(tmp_path / "s" / "trials.csv") if row["status"] == "pruned"]
    arguments = (f"trials={int(pruned[-1]) + 1}", "output_dir=t", "prune_after_trials=2")
    tune(*arguments)
    expected = outcome(tmp_path / "t")
    with contextlib.closing(sqlite3.connect(tmp_path / "t" / "study.db")) as database:
        database.execute(f"UPDATE trials SET state = 'RUNNING' WHERE number = {pruned[-1]}")
        database.commit()
    assert tune(*arguments).stderr.count("pruned") == 1
    assert outcome(tmp_path / "t") == expected


@pytest.mark.slow
def test_one_other_objective_selects_the_checkpoint_too(tune, tmp_path):
    tune("trials=2", "output_dir=s", "objectives={val/kl:max}")
    trials = rows(tmp_path / "s" / "trials.csv")
    (best,) = [row for row in trials if row["best"]]
    assert float(best["val/kl"]) == max(float(row["val/kl"]) for row in trials)
    experiment = (tmp_path / "s" / "experiment" / "smoke_tuned.yaml").read_text()
    assert "monitor: val/kl" in experiment
    assert "mode: max" in experiment


@pytest.mark.slow
def test_an_unknown_objective_is_named_with_the_known_ones(tune, tmp_path):
    done = tune("trials=2", "output_dir=s", "objectives={val/l2:min,val/kl:min}", code=2)
    assert "val/l2 is not a metric of the validation. Its metrics: val/kl, val/l1" in done.stderr


@pytest.mark.slow
def test_trials_at_the_same_time(tune, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_SECONDS", "0.2")
    done = tune("trials=4", "jobs=2", "output_dir=s", "pruning=none")
    assert [row["status"] for row in rows(tmp_path / "s" / "trials.csv")] == ["finished"] * 4
    lines = [line for line in done.stderr.splitlines() if line.startswith("Trial")]
    assert lines[0].startswith("Trial 0 (")
    assert lines[1].startswith("Trial 1 (")  # before trial 0 has ended


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([KL], "experiment is not set: expected experiment=NAME, one of ldm_baseline"),
        (["experiment=smoke"], "space is not set: expected space=NAME, one of ldm, vae"),
        (["experiment=smoke", "space=vea"], "Did you mean vae?"),
        (["experiment=smoke", "space.model.kl_weight=[1,2]"], "write +space.model.kl_weight=… to add it"),
        (["experiment=smoke", "+space.model.kl_wieght=[1,2]"], "Did you mean model.kl_weight?"),
        (["experiment=smoke", "+space.model.kl_weight=[a,b]"], "model.kl_weight='a': expected a number"),
        (["experiment=smoke", "+space.model.reconstruction=[l1,l3]"], "l3: there is no such"),
        (["experiment=smoke", KL, "trials=0"], "trials=0: expected a whole number, 1 or more"),
        (["experiment=smoke", KL, "jobs=0"], "jobs=0: expected"),
        (["experiment=smoke", KL, "method=grid"], "method=grid: expected one of tpe, random"),
        (["experiment=smoke", KL, "objectives={val/l1:lower}"], "val/l1=lower: expected min or max"),
        (["experiment=smoke", KL, "objectives={val/l1:min,val/kl:min}", "pruning=median"], "found 2"),
        (["experiment=smoke", KL, "callbacks.checkpointer.monitor=null"], "needs one metric"),
        (["experiment=smoke", KL, "ckpt_path=last"], "ckpt_path: tune starts and continues its"),
        (["experiment=smoke", KL, "~logger"], "Set the key to null instead"),
        (["experiment=smoke", KL, "-m", "seed=1,2"], "without -m"),
        (["experiment=smoke", KL, "data.root=nowhere"], "data.root=nowhere: expected a folder"),
        (["experiment=smoke_ldm", KL, "autoencoder_ckpt=nowhere.ckpt"], "there is no such checkpoint"),
    ],
)  # fmt: skip
def test_mistakes_are_reported_before_any_trial(refusal, arguments, message):
    assert message in refusal(*arguments)


def test_without_optuna_one_message_names_the_extra(refusal, monkeypatch):
    monkeypatch.setattr("pti.tune.__main__.find_spec", lambda name: None)
    assert "python -m pip install 'pti[tune]'" in refusal(*BASE)


def start(folder: Path, *arguments: str, seconds: float = 0.15) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, TOY, *BASE, *arguments],
        cwd=folder,
        env=training_setup.environment(TOY_SECONDS=str(seconds)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(folder: Path, file: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 100
    while not list(folder.glob(f"*/{file}")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_search_that_is_stopped_ends_with_the_same_best_trial(tune, tmp_path, signum):
    """Stop it twice, in the middle of a trial; the default folder is found again by the same command."""
    arguments, folder = ("trials=8", "prune_after_trials=2"), tmp_path / "outputs" / "smoke" / "tune"
    for number in (2, 5):
        with start(tmp_path, *arguments) as process:
            wait_for(folder, f"trial_{number:03d}/metrics.csv", process)
            os.kill(process.pid, signum)
            output, _ = process.communicate(timeout=100)
        assert process.returncode == (-9 if signum == signal.SIGKILL else 128 + signum)
        if signum != signal.SIGKILL:
            assert "Next: python -m pti.tune experiment=smoke" in output
    assert "Continuing" in tune(*arguments).stdout
    (stopped,) = folder.glob("*")
    tune(*arguments, "output_dir=whole")
    assert outcome(stopped) == outcome(tmp_path / "whole")
    assert [row for row in outcome(stopped) if row["best"]]


@pytest.mark.slow
def test_killed_trainings_lead_to_the_same_best_trial(tmp_path, monkeypatch):
    """Search with real trainings, kill the second one, and train the best trial with the printed command."""
    monkeypatch.setattr("pti.tune.trial_run.PROGRAM", PROGRAM)
    arguments = (*BASE, "trials=3", "callbacks.pictures=null")
    program = ["-m", "pti.tune"]
    with training_setup.start(tmp_path, *arguments, "output_dir=stopped", program=program) as process:
        wait_for(tmp_path, "trial_001/checkpoints/last.ckpt", process)
        process.kill()
    run_command(main, tmp_path, *arguments, "output_dir=stopped")
    done = run_command(main, tmp_path, *arguments, "output_dir=whole")
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")
    _, _, command = done.stdout.rpartition("Next: python -m pti.train ")
    code, output = training_setup.run(tmp_path, *shlex.split(command), "trainer.max_epochs=1")
    assert code == 0, output
    (best,) = [row for row in rows(tmp_path / "whole" / "trials.csv") if row["best"]]
    (config,) = (tmp_path / "outputs" / "smoke_tuned").glob("*/config.yaml")
    assert OmegaConf.load(config).model.kl_weight == float(best["model.kl_weight"])
