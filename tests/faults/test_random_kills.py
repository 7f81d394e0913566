"""Training that is killed at random moments, and resumed, ends like an undisturbed one, bit for bit.

``pytest -m slow tests/faults/test_random_kills.py --kills 200 --kill-seed 7`` chooses how many and which.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from helpers import forks
from helpers.resumed_runs import assert_equal, assert_same_run, assert_steps_rise
from pti.data.phantom import make_phantom
from pti.runs.checkpoint import read

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

ALONE = 0.25
"""Share of the kills that hit only the training process, as those of the kernel when memory runs out do."""

SURVIVAL = 15.0
"""Seconds in which the loader processes must notice that; torch looks every five seconds."""

RUN = (
    "trainer=cpu",
    "trainer.max_epochs=3",
    "data.num_workers=2",
    "data/augmentation=mild",
    "model.accumulate_grad_batches=3",  # windows reach beyond the 4 batches of an epoch
    "callbacks.checkpointer.every_n_steps=1",
    "callbacks.checkpointer.keep_every_n_epochs=2",
    "callbacks.pictures=null",
    "data.cache_dir=cache",  # a new one for each chain: kills hit its making, too
    "output_dir=run",
    "resume=auto",
)
STAGES = {
    "stage 1": ("experiment=smoke", "model/perceptual=none", "model.perceptual_weight=0"),
    "stage 2": (
        "experiment=smoke_ldm",
        "data.batch_size=2",
        "autoencoder_ckpt=../stage 1/run/checkpoints/best.ckpt",
    ),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Train both stages, and return the folders in which they ran, by stage; each holds ``seconds.txt``."""
    root = tmp_path_factory.mktemp("kills")
    make_phantom(root / "images", patients=6, slices=2, image_size=64)
    for stage in STAGES:
        (root / stage).mkdir()
        training, began = start(root / stage, stage), time.monotonic()
        assert training.wait() == 0, (root / stage / "log.txt").read_text()
        (root / stage / "seconds.txt").write_text(str(time.monotonic() - began))
    return {stage: root / stage for stage in STAGES}


def start(folder: Path, stage: str) -> forks.Fork:
    return forks.start(folder, *STAGES[stage], *RUN, "data.root=../images", log=folder / "log.txt")


@pytest.mark.parametrize("stage", STAGES)
def test_killed_training_ends_like_undisturbed_training(
    request: pytest.FixtureRequest, undisturbed: dict[str, Path], stage: str
) -> None:
    seed = request.config.getoption("--kill-seed")
    generator, whole = random.Random(f"{stage} {seed}"), undisturbed[stage]
    left, chain = request.config.option.kills // len(STAGES), 0
    while left > 0:
        chain += 1
        folder = whole.with_name(f"{stage} killed")
        folder.mkdir()
        kills: list[str] = []
        try:
            train_and_kill(folder, stage, generator, kills)
            assert_same_end(folder / "run", whole / "run")
        except AssertionError as error:
            log = (folder / "log.txt").read_text()[-3000:]
            where = f"--kill-seed {seed}: chain {chain} of {stage}, killed {', '.join(kills) or 'never'}"
            raise AssertionError(f"{where}: {error}\n{log}") from error
        left -= len(kills)
        print(f"{stage}, chain {chain}: {', '.join(kills)}")
        shutil.rmtree(folder)


def train_and_kill(folder: Path, stage: str, generator: random.Random, kills: list[str]) -> None:
    """Start training again and again, and kill it, until it ends before it is killed; note the kills.

    On a machine that has become slower, a run may end before its first checkpoint: then the next ones get
    more time.
    """
    seconds = float((folder.with_name(stage) / "seconds.txt").read_text())
    last, written = folder / "run" / "checkpoints" / "last.ckpt", 0
    while True:
        moment, alone = generator.uniform(0, seconds), generator.random() < ALONE
        training = start(folder, stage)
        with suppress(subprocess.TimeoutExpired):
            assert training.wait(moment) == 0
            return
        (os.kill if alone else os.killpg)(training.pid, signal.SIGKILL)
        if training.wait() == 0:  # it has ended meanwhile
            return
        assert training.returncode == -signal.SIGKILL
        kills.append(f"after {moment:.2f} of {seconds:.2f} s" + alone * ", without its loaders")
        assert not wait_until_gone(training.pid, SURVIVAL), "processes have survived"
        before, written = written, last.stat().st_mtime_ns if last.exists() else 0
        if written == before:
            seconds *= 1.1


def assert_same_end(killed: Path, whole: Path) -> None:
    assert_same_run(killed, whole)
    assert_steps_rise(killed)
    files = [sorted(path.name for path in (run / "checkpoints").iterdir()) for run in (killed, whole)]
    assert files[0] == files[1]
    for name in files[0]:
        states = [read(run / "checkpoints" / name)["state_dict"] for run in (killed, whole)]
        assert_equal(states[0], states[1], name)
    assert json.loads((killed / "summary.json").read_text())["status"] == "finished"


def living(session: int) -> list[int]:
    """List the processes of a session, without those that have ended and wait to be reaped."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            state, _, _, its_session = path.read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state not in "ZX":
                found.append(int(path.parent.name))
    return found


def wait_until_gone(session: int, seconds: float) -> list[int]:
    """Wait until a session has no living process; return those that are left after the given time."""
    deadline = time.monotonic() + seconds
    while (left := living(session)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left
