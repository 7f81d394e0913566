"""Atomic writing of checkpoints."""

import multiprocessing
import os
import resource
import signal
from pathlib import Path

import pytest
import torch

from pti.common.errors import DataError
from pti.runs.checkpoint import read
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


def _fill_disk(folder: Path) -> None:
    io = AtomicCheckpointIO()
    io.save_checkpoint({"step": 1}, folder / "last.ckpt")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    with pytest.raises(DataError, match=r"could not be written.*intact"):
        io.save_checkpoint({"weights": torch.zeros(100_000)}, folder / "last.ckpt")
    os._exit(7)


@pytest.mark.slow
def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=_fill_disk, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 7
    assert read(tmp_path / "last.ckpt") == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_an_unwritable_folder_is_noticed(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"can't be written.*output_dir"):
        require_writable(tmp_path / "file" / "checkpoints")
