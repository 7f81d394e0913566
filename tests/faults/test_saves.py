"""Kills at every boundary of a save: the previous or the new checkpoint loads, never a broken one."""

import io
import itertools
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pti.runs.checkpoint import read
from pti.train.callbacks import checkpoint_io
from pti.train.callbacks.checkpoint_io import AtomicCheckpointIO, require_writable

CALLS = ("open", "os.rename", "os.link", "os.remove", "shutil.copyfile")


def save(folder: Path, step: int) -> None:
    content = {"step": step, "weights": torch.full((20_000,), float(step))}
    previous = {"previous": folder / "last-1.ckpt"}
    AtomicCheckpointIO().save_checkpoint(content, folder / "last.ckpt", previous)


def _save_until_killed(folder: Path, killed_at: int, links: bool) -> None:
    """Save step 3, with a SIGKILL just before the given file operation."""
    operations, writes = itertools.count(1), itertools.count()

    def boundary() -> None:
        if next(operations) == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)

    class File(io.BufferedWriter):
        def write(self, data: Any) -> int:
            if next(writes) % 8 == 0:
                boundary()
            return super().write(data)

    def sync(descriptor: int, fsync: Any = os.fsync) -> None:
        boundary()
        fsync(descriptor)

    def refuse(*_: Any) -> None:
        raise OSError("no hard links")

    module: Any = checkpoint_io
    module.open = lambda path, mode: File(io.FileIO(path, "w"))
    os.fsync = sync
    if not links:
        os.link = refuse
    sys.addaudithook(
        lambda event, given: boundary() if event in CALLS and str(folder) in str(given) else None
    )
    save(folder, 3)


@pytest.fixture(params=["hard links", "no hard links", "another file system"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    if request.param != "another file system":
        yield tmp_path
        return
    if not os.path.isdir("/dev/shm"):
        pytest.skip("no second file system")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


@pytest.mark.slow
def test_a_kill_at_every_boundary_of_a_save(folder: Path, request: pytest.FixtureRequest):
    links = "no hard links" not in request.node.name
    context = multiprocessing.get_context(
        "forkserver"
    )  # its processes are forks of a process without threads
    context.set_forkserver_preload(["torch", checkpoint_io.__name__])
    before, run = folder / "before", folder / "run"
    before.mkdir()
    save(before, 1)
    save(before, 2)
    steps = []
    for killed_at in itertools.count(1):
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(before, run)
        process = context.Process(target=_save_until_killed, args=(run, killed_at, links))
        process.start()
        process.join()
        contents = {path.name: read(path) for path in run.glob("*.ckpt")}
        assert contents.keys() == {"last.ckpt", "last-1.ckpt"}
        for content in contents.values():
            assert bool((content["weights"] == content["step"]).all())
        steps.append((contents["last-1.ckpt"]["step"], contents["last.ckpt"]["step"]))
        require_writable(run)
        assert not list(run.glob(".*"))
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert steps[-1] == (2, 3)
    assert list(dict.fromkeys(steps)) == [(1, 2), (2, 2), (2, 3)]  # before, between and after the two renames
    assert len(steps) > 10
