"""Writing and opening of checkpoints."""

import hashlib
import multiprocessing
import os
import pickle
import resource
import signal
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from pti.common.errors import DataError, UsageError
from pti.runs.checkpoint import CheckpointError, open_checkpoint, open_intact, read
from pti.runs.renamed import FORMAT
from pti.train.callbacks.checkpoint_io import AtomicCheckpointIO, require_plain, require_writable


@pytest.fixture
def io() -> AtomicCheckpointIO:
    return AtomicCheckpointIO()


def test_what_was_saved_is_read(io, tmp_path):
    content = {"weights": torch.arange(3), "nested": [1, (2.5, None), {"a": True}]}
    io.save_checkpoint(content, tmp_path / "a.ckpt")
    found = read(tmp_path / "a.ckpt")
    assert torch.equal(found.pop("weights"), content.pop("weights"))
    assert found == content
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_the_replaced_file_is_kept(io, tmp_path):
    for step in range(3):
        io.save_checkpoint({"step": step}, tmp_path / "last.ckpt", {"previous": tmp_path / "last-1.ckpt"})
    assert read(tmp_path / "last.ckpt")["step"] == 2
    assert read(tmp_path / "last-1.ckpt")["step"] == 1


@pytest.mark.parametrize("value", [Path("x"), object(), torch.nn.Linear(1, 1)])
def test_what_is_not_plain_is_named(value):
    with pytest.raises(TypeError, match=r"checkpoint\['a'\]\[1\]"):
        require_plain({"a": [0, value]}, "checkpoint")


def _save_forever(folder: Path) -> None:
    weights, step = torch.zeros(300_000), 0
    while True:
        step += 1
        content = {"weights": weights + step, "step": step}
        AtomicCheckpointIO().save_checkpoint(
            content, folder / "last.ckpt", {"previous": folder / "last-1.ckpt"}
        )


def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path):  # fault 15
    context = multiprocessing.get_context("spawn")
    for kill in range(6):
        process = context.Process(target=_save_forever, args=(tmp_path,))
        process.start()
        while not (tmp_path / "last-1.ckpt").exists():
            time.sleep(0.01)
        time.sleep(0.05 + 0.0137 * kill)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        for name in ("last.ckpt", "last-1.ckpt"):
            content = read(tmp_path / name)
            assert bool((content["weights"] == content["step"]).all())
    require_writable(tmp_path)
    assert not list(tmp_path.glob(".*"))


def _fill_disk(folder: Path) -> None:
    io = AtomicCheckpointIO()
    io.save_checkpoint({"step": 1}, folder / "last.ckpt")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    with pytest.raises(DataError, match=r"could not be written.*whole"):
        io.save_checkpoint({"weights": torch.zeros(100_000)}, folder / "last.ckpt")
    os._exit(7)


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path):  # fault 16
    process = multiprocessing.get_context("spawn").Process(target=_fill_disk, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 7
    assert read(tmp_path / "last.ckpt") == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_an_unwritable_folder_is_noticed(tmp_path):  # fault 17
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"can't be written.*output_dir"):
        require_writable(tmp_path / "file" / "checkpoints")


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["flipped", "half", "empty", "text", "missing"])
def test_damage_is_noticed(io, tmp_path, how):  # fault 23
    path = tmp_path / "a.ckpt"
    io.save_checkpoint({"weights": torch.zeros(10_000)}, path)
    if how == "flipped":
        damage(path)
    elif how == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif how == "missing":
        path.unlink()
    else:
        path.write_text("" if how == "empty" else "no checkpoint")
    with pytest.raises(CheckpointError, match=r"a\.ckpt"):
        read(path)


class Bomb:
    def __init__(self, fuse: Path) -> None:
        self.fuse = fuse

    def __reduce__(self):
        return os.mkdir, (str(self.fuse),)


def test_a_pickle_bomb_is_not_executed(tmp_path):  # fault 41
    fuse = tmp_path / "fuse"
    torch.save({"state_dict": {}, "bomb": Bomb(fuse)}, tmp_path / "zip.ckpt")
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps(Bomb(fuse)))
    torch.save(Bomb(fuse), tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    for name in ("zip.ckpt", "plain.ckpt", "old.ckpt"):
        with pytest.raises(CheckpointError):
            open_checkpoint(tmp_path / name)
        with pytest.raises((pickle.UnpicklingError, CheckpointError)):
            AtomicCheckpointIO().load_checkpoint(tmp_path / name, weights_only=False)
    with pytest.raises(UsageError):
        open_checkpoint("https://example.org/model.ckpt")
    assert not fuse.exists()


def test_a_checkpoint_of_something_else_is_refused(io, tmp_path):
    io.save_checkpoint({"weights": torch.zeros(3)}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=r"found the keys weights"):
        open_checkpoint(tmp_path / "a.ckpt")
    with zipfile.ZipFile(tmp_path / "b.ckpt", "w") as archive:
        archive.writestr("hello.txt", "world")
    with pytest.raises(CheckpointError):
        open_checkpoint(tmp_path / "b.ckpt")


def save(io: AtomicCheckpointIO, path: Path, **changes: Any) -> Path:
    model = {"_target_": "pti.modules.regression.Regression", "schedule": None}
    io.save_checkpoint({"config": {"model": model, "fresh_sweep": True}, "state_dict": {}, **changes}, path)
    return path


def test_an_opened_checkpoint_has_its_parts_and_its_hash(io, tmp_path):
    path = save(io, tmp_path / "a.ckpt", format=FORMAT)
    checkpoint = open_checkpoint(path)
    assert (checkpoint.path, checkpoint.state) == (path, {})
    assert checkpoint.config == checkpoint.content["config"]
    assert checkpoint.config["fresh_sweep"] is True
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    path.unlink()
    assert len(checkpoint.sha256) == 64  # hashed only once


def test_older_names_are_translated(io, tmp_path):
    config = open_checkpoint(save(io, tmp_path / "a.ckpt")).config
    assert config == {
        "model": {"_target_": "pti.modules.regression.Regression", "lr_schedule": None},
        "new_sweep": True,
    }


@pytest.mark.parametrize("number", [FORMAT + 1, "new"])
def test_a_newer_format_is_refused(io, tmp_path, number):
    with pytest.raises(CheckpointError, match=rf"format {number}, expected at most {FORMAT}.*newer version"):
        open_checkpoint(save(io, tmp_path / "a.ckpt", format=number))


def test_an_earlier_checkpoint_replaces_a_damaged_one(io, tmp_path):  # fault 23
    last, previous = save(io, tmp_path / "last.ckpt"), save(io, tmp_path / "last-1.ckpt")
    assert open_intact(last)[0].path == last
    damage(last)
    checkpoint, error = open_intact(last)
    assert checkpoint.path == previous
    assert "last.ckpt" in str(error)
    damage(previous)
    with pytest.raises(CheckpointError, match=r"last\.ckpt"):
        open_intact(last)
