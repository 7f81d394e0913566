"""Opening of checkpoints."""

import hashlib
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from pti.common.errors import UsageError
from pti.runs.checkpoint import CheckpointError, open_checkpoint, open_intact, read
from pti.runs.renamed import FORMAT
from pti.train.callbacks.checkpoint_io import AtomicCheckpointIO


@pytest.fixture
def io() -> AtomicCheckpointIO:
    return AtomicCheckpointIO()


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["flipped", "half", "empty", "text", "missing"])
def test_damage_is_noticed(io, tmp_path, how):
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


def test_a_pickle_bomb_is_not_executed(tmp_path):
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


def test_an_earlier_checkpoint_replaces_a_damaged_one(io, tmp_path):
    last, previous = save(io, tmp_path / "last.ckpt"), save(io, tmp_path / "last-1.ckpt")
    assert open_intact(last)[0].path == last
    last.write_bytes(b"damaged")
    checkpoint, error = open_intact(last)
    assert checkpoint.path == previous
    assert "last.ckpt" in str(error)
    previous.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"last\.ckpt"):
        open_intact(last)
