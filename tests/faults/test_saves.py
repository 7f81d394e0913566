"""Kills at every boundary of a save: the previous or the new checkpoint loads, never a broken one."""

import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import forks
from helpers.killed_save import save
from pti.runs.checkpoint import read
from pti.train.callbacks.checkpoint_io import require_writable


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
    before, run = folder / "before", folder / "run"
    before.mkdir()
    save(before, 1)
    save(before, 2)
    steps = []
    for killed_at in itertools.count(1):
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(before, run)
        code, output = forks.run(folder, str(run), str(killed_at), str(links), module="helpers.killed_save")
        contents = {path.name: read(path) for path in run.glob("*.ckpt")}
        assert contents.keys() == {"last.ckpt", "last-1.ckpt"}
        for content in contents.values():
            assert bool((content["weights"] == content["step"]).all())
        steps.append((contents["last-1.ckpt"]["step"], contents["last.ckpt"]["step"]))
        require_writable(run)
        assert not list(run.glob(".*"))
        if code == 0:
            break
        assert code == -signal.SIGKILL, output
    assert steps[-1] == (2, 3)
    assert list(dict.fromkeys(steps)) == [(1, 2), (2, 2), (2, 3)]  # before, between and after the two renames
    assert len(steps) > 10
