"""Opening of checkpoints."""

import hashlib
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.damage import PICKLES
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


def test_what_was_done_before_an_argument_existed_is_said(io, tmp_path):
    gate = {"_target_": "pti.networks.detail_transfer.DetailTransfer"}
    config = {"model": {"detail_transfer": gate}, "data": [gate | {"by_region": True}]}
    opened = open_checkpoint(save(io, tmp_path / "a.ckpt", format=FORMAT, config=config)).config
    assert opened == {
        "model": {"detail_transfer": gate | {"by_region": False}},
        "data": [gate | {"by_region": True}],
    }


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


def with_pickle(path: Path, data: bytes, name: str = "data.pkl") -> Path:
    """Replace the pickle of a checkpoint."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for record, content in records.items():
            is_pickle = record.endswith("data.pkl")
            archive.writestr(record.replace("data.pkl", name), data if is_pickle else content)
    return path


@pytest.mark.parametrize("data", PICKLES)
def test_hostile_pickles_are_refused_at_once(io, tmp_path, data):
    path = with_pickle(save(io, tmp_path / "a.ckpt"), data)
    with pytest.raises(CheckpointError, match=r"a\.ckpt: ") as caught:
        open_checkpoint(path)
    assert len(str(caught.value)) < 1000


def test_a_hostile_pickle_in_capitals_is_refused_unopened(io, tmp_path):
    path = with_pickle(save(io, tmp_path / "a.ckpt"), PICKLES[1], "DATA.PKL")  # torch would find it
    with pytest.raises(CheckpointError, match=r"it names builtins\.bytearray"):
        read(path)


@pytest.mark.parametrize(
    "state",
    [
        {"a": torch.zeros(3).to_sparse()},
        {"a": torch.zeros(3, device="meta")},
        {"a": "text"},
        {("a", 1): torch.zeros(3)},
        "text",
    ],
)
def test_weights_that_are_not_tensors_by_name_are_refused(tmp_path, state):
    content = {"config": {"model": {}}, "state_dict": state}
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=r"a\.ckpt: "):
        open_checkpoint(tmp_path / "a.ckpt")


def test_a_compressed_checkpoint_is_refused_before_it_is_unpacked(io, tmp_path):
    path = save(io, tmp_path / "a.ckpt")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(10**7))
    with pytest.raises(CheckpointError, match="declares more than it contains"):
        read(path)


def test_a_model_larger_than_its_weights_is_refused_before_it_is_built(io, tmp_path):
    model = {
        "_target_": "monai.networks.nets.PatchDiscriminator",
        "spatial_dims": 2,
        "in_channels": 1,
        "channels": 10**4,
        "num_layers_d": 3,
        "norm": None,
    }
    path = tmp_path / "a.ckpt"
    io.save_checkpoint(
        {"config": {"model": model}, "state_dict": {"a": torch.zeros(9)}, "format": FORMAT}, path
    )
    with pytest.raises(CheckpointError, match="more weights than the 9 that it contains"):
        open_checkpoint(path).load_module()


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
