"""Faults of the command ``train`` in separate processes: kills, stop signals, a full disk, deleted files."""

import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import forks
from helpers.resumed_runs import assert_equal
from helpers.training_setup import arguments, make_images, run, start, trouble
from pti.runs.checkpoint import read
from pti.train.callbacks.metrics_csv import read_metrics

pytestmark = pytest.mark.slow

LONG = "trainer.max_epochs=1000000"
TWO = ("trainer=ddp_cpu", "data.batch_size=2")
WITHIN = 30.0


def wait_for(path: Path, seconds: float = 90.0) -> Path:
    """Wait for a file that matches the pattern, and return the last one by name."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        matches = sorted(path.parent.glob(path.name))
        if matches:
            return matches[-1]
        time.sleep(0.1)
    raise AssertionError(f"{path} did not appear")


def processes_of(folder: Path) -> dict[int, list[str]]:
    """Map the ids of all processes whose command line names the folder to their command lines."""
    processes = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            words = (entry / "cmdline").read_bytes().decode().split("\0")
            if any(str(folder) in word for word in words):
                processes[int(entry.name)] = words
    return processes


def rank_processes(folder: Path) -> list[int]:
    """List the process ids of the ranks, rank 0 first."""
    ranks = {}
    for process, words in processes_of(folder).items():
        if "pti.train.rank" in words:
            variables = Path(f"/proc/{process}/environ").read_bytes().decode().split("\0")
            ranks[next(int(text.split("=")[1]) for text in variables if text.startswith("LOCAL_RANK="))] = (
                process
            )
    return [ranks[rank] for rank in sorted(ranks)]


def assert_none_left(folder: Path, seconds: float = WITHIN) -> None:
    until = time.monotonic() + seconds
    while processes_of(folder) and time.monotonic() < until:
        time.sleep(0.2)
    assert not processes_of(folder)


@contextlib.contextmanager
def training(cwd: Path, root: Path, *overrides: str) -> Iterator[tuple]:
    """Yield a running training and its folder once it has saved a checkpoint."""
    folder = cwd / "run"
    process = start(cwd, *arguments(root, f"output_dir={folder}", *overrides))
    try:
        wait_for(folder / "checkpoints" / "last.ckpt")
        yield process, folder
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for other in processes_of(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(other, signal.SIGKILL)
        process.communicate()


def test_a_killed_run_ends_like_an_uninterrupted_one(root, tmp_path):
    settings = ("trainer.log_every_n_steps=1", "callbacks.checkpointer.every_n_steps=4", "data.num_workers=2")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    assert forks.run(whole, *arguments(root, "output_dir=run", *settings))[0] == 0
    kill = trouble("on_train_batch_start", "SIGKILL", call=10)
    code, output = run(cut, *arguments(root, "output_dir=run", kill, *settings))
    assert code == -signal.SIGKILL, output
    assert read(cut / "run" / "checkpoints" / "last.ckpt")["batches_done"] == 8
    kill = trouble("on_validation_batch_start", "SIGKILL", call=1)
    code, output = run(cut, *arguments(root, "ckpt_path=run/checkpoints/last.ckpt", kill, *settings))
    assert code == -signal.SIGKILL, output
    code, output = run(cut, *arguments(root, "ckpt_path=run/checkpoints/last.ckpt", *settings))
    assert code == 0, output
    one, other = (read(folder / "run" / "checkpoints" / "last.ckpt") for folder in (whole, cut))
    for part in ("state_dict", "optimizer_states", "rng", "loops"):
        assert_equal(one[part], other[part], part)
    assert read_metrics(whole / "run" / "metrics.csv") == read_metrics(cut / "run" / "metrics.csv")
    assert len(list((cut / "run" / ".hydra").glob("resumed_*"))) >= 1


@pytest.mark.parametrize("target", ["main", "rank 1", "group", "alone"])
def test_sigterm_saves_and_ends(root, tmp_path, target):
    settings = () if target == "alone" else TWO
    with training(tmp_path, root, LONG, *settings) as (process, folder):
        before = read(folder / "checkpoints" / "last.ckpt")["batches_done"]
        if target == "group":
            os.killpg(process.pid, signal.SIGTERM)
        else:
            os.kill(rank_processes(folder)[1] if target == "rank 1" else process.pid, signal.SIGTERM)
        output, _ = process.communicate(timeout=WITHIN)
        assert process.returncode == 143, output
        assert_none_left(folder, 2)
        assert read(folder / "checkpoints" / "last.ckpt")["batches_done"] > before
        assert json.loads((folder / "summary.json").read_text())["status"] == "interrupted"
        assert "ckpt_path=run/checkpoints/last.ckpt" in output


@pytest.mark.parametrize("settings", [(), TWO], ids=["one process", "two"])
def test_ctrl_c_saves_and_ends(root, tmp_path, settings):
    with training(tmp_path, root, LONG, *settings) as (process, folder):
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=WITHIN)
        assert process.returncode == 130, output
        assert_none_left(folder, 2)
        assert json.loads((folder / "summary.json").read_text())["status"] == "interrupted"


@pytest.mark.parametrize("settings", [(), TWO], ids=["one process", "two"])
def test_ctrl_c_twice_ends_at_once(root, tmp_path, settings):
    sleep = trouble("on_train_batch_start", "sleep", call=14)
    with training(tmp_path, root, LONG, "data.num_workers=1", sleep, *settings) as (process, folder):
        wait_for(tmp_path / "sleeping")
        for _ in range(2):
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(1)
        process.communicate(timeout=10)
        assert process.returncode == 130
        assert_none_left(folder, 15)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("what", ["raise", "SIGKILL"])
def test_a_failing_rank_ends_all(root, tmp_path, what, rank):
    begun = time.monotonic()
    failing = trouble("on_train_batch_start", what, call=8, rank=rank)
    code, output = run(tmp_path, *arguments(root, LONG, "output_dir=run", failing, *TWO))
    assert code == 1, output
    assert time.monotonic() - begun < 60 + WITHIN
    expected = "ValueError: trouble was asked for" if what == "raise" else f"rank {rank} was ended by SIGKILL"
    assert expected in output
    assert_none_left(tmp_path, 2)


def test_ranks_end_when_their_parent_is_killed(root, tmp_path):
    with training(tmp_path, root, LONG, *TWO) as (process, folder):
        before = read(folder / "checkpoints" / "last.ckpt")["batches_done"]
        os.kill(process.pid, signal.SIGKILL)
        assert_none_left(folder)
        assert read(folder / "checkpoints" / "last.ckpt")["batches_done"] > before


def test_a_full_disk_during_training(root, tmp_path):
    program = (
        "import resource, signal, sys, time, threading, pathlib\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "def fill():\n"
        "    while not pathlib.Path('run/checkpoints/last.ckpt').exists(): time.sleep(0.01)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (60000, 60000))\n"
        "threading.Thread(target=fill, daemon=True).start()\n"
        "import pti.train.__main__\npti.train.__main__.main()\n"
    )
    command_line = arguments(root, LONG, "output_dir=run", "logger=csv")
    with start(tmp_path, *command_line, program=["-c", program]) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    assert re.search(r"last.ckpt|best.ckpt", output)
    assert "could not be written" in output
    assert read(tmp_path / "run" / "checkpoints" / "last.ckpt")["batches_done"] > 0


def test_a_killed_loader_worker_ends_training(root, tmp_path):
    with training(tmp_path, root, LONG, "data.num_workers=2") as (process, folder):
        workers = [child for child in processes_of(folder) if child != process.pid]
        assert workers
        os.kill(workers[0], signal.SIGKILL)
        output, _ = process.communicate(timeout=WITHIN)
        assert process.returncode == 1, output
        assert "process that loads images was killed" in output
        assert_none_left(folder, 10)


@pytest.mark.parametrize("settings", [(), TWO], ids=["one process", "two"])
def test_a_file_that_is_deleted_during_training(tmp_path, settings):
    root = make_images(tmp_path / "images")
    with training(tmp_path, root, LONG, "data.cache=false", *settings) as (process, folder):
        gone = sorted((root / "edente").iterdir())
        for path in gone:
            path.unlink()
        output, _ = process.communicate(timeout=WITHIN)
        assert process.returncode == 1, output
        assert any(path.name in output for path in gone)
        assert_none_left(folder, 2)


def test_the_command_printed_after_an_interruption_resumes_the_run(root, tmp_path):
    with training(tmp_path, root, LONG) as (process, _):
        os.kill(process.pid, signal.SIGTERM)
        output, _ = process.communicate(timeout=WITHIN)
    command = re.search(r"Next: python -m pti.train (.*)", output)
    assert command, output
    done = read(tmp_path / "run" / "checkpoints" / "last.ckpt")["batches_done"]
    words = [word.strip("'") for word in command.group(1).split()]
    epochs = done // 6 + 2
    words = [
        f"trainer.max_epochs={epochs}" if word.startswith("trainer.max_epochs") else word for word in words
    ]
    code, output = run(tmp_path, *words)
    assert code == 0, output
    rows = read_metrics(tmp_path / "run" / "metrics.csv")
    assert [row["epoch"] for row in rows] == list(range(epochs))
