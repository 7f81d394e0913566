"""Sweeps with Hydra's submitit launcher: on a SLURM of shell scripts, and as processes of this machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.fake_slurm import FakeSlurm
from helpers.training_setup import arguments, environment, trouble
from pti.cli.overrides import check_command_line
from pti.common.errors import UsageError
from pti.runs.checkpoint import read
from pti.sweep.record import FINISHED, load_sweep

SLURM = "hydra/launcher=submitit_slurm"
LOCAL = "hydra/launcher=submitit_local"


@pytest.fixture
def slurm(tmp_path: Path) -> FakeSlurm:
    pytest.importorskip("submitit")
    return FakeSlurm(tmp_path / "slurm")


@pytest.fixture
def measuring(root: Path) -> list[str]:
    """A sweep of two jobs that need little."""
    return ["pti.measure", "-m", f"data.root={root}", "pixel_mm=0.15,0.2", "output_dir=sweep", "workers=1"]


def start(folder: Path, slurm: FakeSlurm | None, *line: str) -> subprocess.Popen[bytes]:
    """Start ``python -m LINE`` in a folder, whose ``output.txt`` receives what it prints."""
    path = {} if slurm is None else {"PATH": slurm.path}
    with open(folder / "output.txt", "w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", *line],
            cwd=folder,
            env=environment(**path),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def finish(folder: Path, slurm: FakeSlurm | None, *line: str, code: int = 0) -> str:
    """Run a command, require its exit code, and return what it printed."""
    return end(start(folder, slurm, *line), folder, code)


def end(process: subprocess.Popen[bytes], folder: Path, code: int = 0) -> str:
    process.wait(timeout=280)
    output = (folder / "output.txt").read_text()
    assert process.returncode == code, output
    return output


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 200
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def statuses(folder: Path) -> list[str]:
    sweep = load_sweep(folder)
    assert sweep is not None
    return [result.status for result in sweep.results()]


def test_without_a_sweep():
    with pytest.raises(UsageError, match=r"submitit_slurm: a launcher starts the jobs of a sweep.*-m"):
        check_command_line("measure", ["input_dir=x", SLURM])


def test_without_the_extra(monkeypatch):
    monkeypatch.setattr("pti.cli.launchers.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs the package hydra-submitit-launcher.*pti\[slurm\]"):
        check_command_line("measure", ["-m", "pixel_mm=0.1,0.2", SLURM])


def test_without_slurm(monkeypatch, tmp_path):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"submitit_slurm: this machine has no sbatch"):
        check_command_line("measure", ["-m", "pixel_mm=0.1,0.2", SLURM])
    assert check_command_line("measure", ["-m", "pixel_mm=0.1,0.2", LOCAL]).launcher == "submitit_local"


def test_several_tasks_are_refused():
    pytest.importorskip("submitit")
    line = ["-m", "pixel_mm=0.1,0.2", LOCAL, "hydra.launcher.tasks_per_node=4"]
    with pytest.raises(UsageError, match=r"tasks_per_node=4: expected 1.*trainer\.devices"):
        check_command_line("measure", line)


@pytest.mark.slow
def test_preempted_jobs_continue_from_their_checkpoint(root, tmp_path, slurm):
    preempted = trouble("on_train_batch_start", "SIGUSR1", call=10)
    line = arguments(root, "seed=1,2", "output_dir=sweep", SLURM, "hydra.launcher.partition=gpu", preempted)
    output = finish(tmp_path, slurm, "pti.train", "-m", *line)
    assert "seed-1: finished" in output
    assert statuses(tmp_path / "sweep") == [FINISHED, FINISHED]
    assert sorted(slurm.requeued) == ["77_0", "77_1"]
    assert "#SBATCH --partition=gpu" in slurm.script
    for seed in (1, 2):
        folder = tmp_path / "sweep" / f"seed-{seed}"
        last = read(folder / "checkpoints" / "last.ckpt")
        assert (last["batches_done"], last["config"]["seed"]) == (18, seed)
        assert "hydra/launcher=submitit_slurm" in (folder / "environment.txt").read_text()
        log = (tmp_path / "sweep" / ".submitit" / f"77_{seed - 1}" / f"77_{seed - 1}_0_log.out").read_text()
        assert "after 10 batches" in log
    assert (tmp_path / "sweep" / "sweep.html").is_file()
    assert "all 2 jobs were finished earlier" in finish(tmp_path, slurm, "pti.train", "-m", *line)
    assert slurm.submitted == 1


@pytest.mark.slow
def test_a_process_of_this_machine_is_stopped_and_continues(root, tmp_path):
    pytest.importorskip("submitit")
    preempted = trouble("on_train_batch_start", "SIGUSR1", call=10)
    line = arguments(root, "seed=1", "output_dir=sweep", LOCAL, preempted)
    finish(tmp_path, None, "pti.train", "-m", *line)
    assert statuses(tmp_path / "sweep") == [FINISHED]
    assert read(tmp_path / "sweep" / "job" / "checkpoints" / "last.ckpt")["batches_done"] == 18


@pytest.mark.slow
def test_the_same_command_after_a_refusal_and_after_an_interruption(tmp_path, slurm, measuring):
    slurm.refuse(True)
    output = finish(tmp_path, slurm, *measuring, SLURM, code=2)
    assert "sbatch refused the jobs: sbatch: error: invalid partition" in output
    assert "Traceback" not in output
    slurm.refuse(False)
    slurm.hold(True)
    waiting = start(tmp_path, slurm, *measuring, SLURM)
    wait_for(lambda: list(tmp_path.glob("sweep/.submitit/77_1/*_submitted.pkl")))
    os.killpg(waiting.pid, signal.SIGINT)
    assert "The jobs stay in SLURM's queue" in end(waiting, tmp_path, code=130)
    again = start(tmp_path, slurm, *measuring, SLURM)
    waited = "Waiting for jobs of this sweep that were submitted earlier: 77_0, 77_1"
    wait_for(lambda: waited in (tmp_path / "output.txt").read_text())
    slurm.hold(False)
    end(again, tmp_path)
    assert statuses(tmp_path / "sweep") == [FINISHED, FINISHED]
    assert slurm.submitted == 1


@pytest.mark.slow
def test_a_failed_and_a_cancelled_job(tmp_path, slurm, measuring, root):
    (tmp_path / "empty").mkdir()
    line = [text for text in measuring if not text.startswith(("pixel_mm", "data.root"))]
    slurm.cancel(0)
    output = finish(tmp_path, slurm, *line, f"input_dir={root},empty", SLURM, code=1)
    assert "A job ended without a result. Job 77_0" in output
    assert "state: CANCELLED" in output
    assert statuses(tmp_path / "sweep") == ["waiting", "failed"]
