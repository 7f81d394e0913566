"""Runs that the same command line starts and continues: ``resume=auto`` and SIGUSR1."""

import os
import signal
from pathlib import Path

import pytest

from helpers.forks import run
from helpers.training_setup import arguments, trouble
from pti.cli.overrides import check_command_line
from pti.common.errors import UsageError
from pti.runs.checkpoint import read
from pti.train.__main__ import preflight
from pti.train.requeue import requeue

STABLE = (
    {"SLURM_JOB_ID": "77"},
    {"SLURM_JOB_ID": "78", "SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "3"},
)


def check(root: Path, *overrides: str) -> list[str]:
    return check_command_line("train", arguments(root, *overrides), preflight).extra


def save(folder: Path, name: str = "last.ckpt") -> Path:
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    (folder / "checkpoints" / name).touch()
    return folder / "checkpoints" / name


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_chosen_folder_is_started_then_resumed(root, tmp_path):
    line = ("resume=auto", "output_dir=run")
    assert check(root, *line) == []
    last = save(tmp_path / "run", "last-1.ckpt")  # the crash was between two renames
    assert f"ckpt_path='{last}'" in check(root, *line)
    last = save(tmp_path / "run")
    extra = check(root, *line)
    assert f"ckpt_path='{last}'" in extra
    assert f"output_dir='{tmp_path / 'run'}'" in extra


def test_a_run_may_start_as_a_branch(root, tmp_path):
    best = save(tmp_path / "other", "best.ckpt")
    line = ("resume=auto", "output_dir=run", f"ckpt_path={best}")
    assert check(root, *line) == [f"ckpt_path='{best}'"]
    assert f"ckpt_path='{save(tmp_path / 'run')}'" in check(root, *line)


@pytest.mark.parametrize(("variables", "name"), [*zip(STABLE, ("job_77", "job_77_3"), strict=True)])
def test_the_cluster_job_names_the_folder(root, tmp_path, monkeypatch, variables, name):
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    (placed,) = check(root, "resume=auto")
    assert placed.endswith(f"/{name}'")
    folder = Path(placed.split("=")[1].strip("'"))
    assert f"ckpt_path='{save(tmp_path / folder)}'" in check(root, "resume=auto")


def test_no_stable_folder(root):
    with pytest.raises(UsageError, match=r"resume=auto.*output_dir=FOLDER"):
        check(root, "resume=auto")
    assert check_command_line("train", ["-m", *arguments(root, "resume=auto", "seed=1,2")]).jobs


def test_only_auto(root):
    with pytest.raises(UsageError, match=r"resume=always: expected one of null, auto"):
        check(root, "resume=always", "output_dir=run")


def test_a_job_that_slurm_restarts_resumes_its_folder(root, tmp_path, monkeypatch):
    last = save(tmp_path / "run")
    assert check(root, "output_dir=run") == []
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert f"ckpt_path='{last}'" in check(root, "output_dir=run")


@pytest.mark.slow
def test_one_command_line_survives_a_kill_and_the_end(root, tmp_path):
    line = arguments(root, "output_dir=run", "resume=auto", "callbacks.checkpointer.every_n_steps=4")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    code, output = run(tmp_path, *line, trouble("on_train_batch_start", "SIGKILL", call=10))
    assert code == -signal.SIGKILL, output
    assert read(last)["batches_done"] == 8
    code, output = run(tmp_path, *line)
    assert code == 0, output
    assert "resumes" in output
    assert read(last)["batches_done"] == 18
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    code, output = run(tmp_path, *line)
    assert code == 0, output
    assert output.strip() == "The run in run is finished; nothing is left to train."
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before
    code, output = run(tmp_path, *line, "trainer.max_epochs=4")
    assert code == 0, output
    assert read(last)["batches_done"] == 24
    code, output = run(tmp_path, *line, "trainer.max_epochs=4", "model.kl_weight=1")
    assert code == 2, output
    assert "model.kl_weight" in output


@pytest.mark.slow
def test_a_sweep_accepts_it(root, tmp_path):
    line = ("-m", *arguments(root, "seed=1,2", "trainer.max_epochs=1"))
    for more, expected in (((), "2 jobs"), (("resume=auto",), "all 2 jobs were finished earlier")):
        code, output = run(tmp_path, *line, *more)
        assert code == 0, output
        assert expected in output


def fake_scontrol(folder: Path, code: int = 0) -> dict[str, str]:
    """Write a ``scontrol`` that records its arguments in ``scontrol.txt``; return the job's variables."""
    (folder / "bin").mkdir()
    script = folder / "bin" / "scontrol"
    script.write_text(f'#!/bin/sh\necho "$@" >> {folder}/scontrol.txt\necho denied >&2\nexit {code}\n')
    script.chmod(0o755)
    return {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "77",
        "SLURM_NTASKS": "1",
        "SLURM_JOB_NAME": "train",
    }


def usr1(rank: int = 0) -> str:
    return trouble("on_train_batch_start", "SIGUSR1", call=10, rank=rank)


@pytest.mark.slow
@pytest.mark.parametrize("several", [False, True], ids=["one process", "two"])
def test_sigusr1_saves_and_requeues(root, tmp_path, monkeypatch, several):
    for name, value in fake_scontrol(tmp_path).items():
        monkeypatch.setenv(name, value)
    settings = ("trainer=ddp_cpu", "data.batch_size=2") if several else ("data.num_workers=1",)
    line = arguments(root, "resume=auto", *settings)
    module = "helpers.forked_ranks"
    code, output = run(tmp_path, *line, usr1(rank=int(several)), module=module)
    assert code == 128 + signal.SIGUSR1, output
    assert "Job 77 is requeued." in output
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 77\n"
    folder = tmp_path / "outputs" / "None" / "job_77"
    assert read(folder / "checkpoints" / "last.ckpt")["batches_done"] >= 9
    code, output = run(tmp_path, *line, module=module)
    assert code == 0, output
    assert read(folder / "checkpoints" / "last.ckpt")["batches_done"] == (15 if several else 18)


@pytest.mark.slow
def test_a_job_that_would_start_afresh_is_not_requeued(root, tmp_path, monkeypatch):
    for name, value in fake_scontrol(tmp_path).items():
        monkeypatch.setenv(name, value)
    code, output = run(tmp_path, *arguments(root, usr1()))
    assert code == 128 + signal.SIGUSR1, output
    assert "Job 77 is not requeued" in output
    assert "Add resume=auto" in output
    assert not (tmp_path / "scontrol.txt").exists()


@pytest.mark.parametrize("code", [0, 1])
def test_the_job_of_an_array_is_requeued(tmp_path, monkeypatch, capsys, code):
    variables = {**fake_scontrol(tmp_path, code), "SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "3"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    requeue(resumable=True)
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 70_3\n"
    expected = "could not requeue job 70_3: denied" if code else "Job 70_3 is requeued."
    assert expected in capsys.readouterr().err


def test_scontrol_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("PATH", str(tmp_path))
    requeue(resumable=True)
    assert "could not requeue job 77" in capsys.readouterr().err


def test_nothing_is_requeued_outside_slurm(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", fake_scontrol(tmp_path)["PATH"])
    requeue(resumable=True)
    assert not (tmp_path / "scontrol.txt").exists()
    assert capsys.readouterr().err == ""
