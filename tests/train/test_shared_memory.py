"""Loader processes in a container whose shared memory is too small for their batches."""

import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from helpers.training_setup import arguments, configuration, start
from pti.common.errors import DataError
from pti.train.run import train

BATCH = 4 * 16 * 16 * 4  # bytes: float32 images of 16 x 16
TRAINED = 5 * BATCH  # two batches prefetched by each of two workers, one in use


def free(monkeypatch, size: int) -> None:
    usage = shutil.disk_usage

    def limited(path):
        return Mock(free=size) if str(path) == "/dev/shm" else usage(path)

    monkeypatch.setattr(shutil, "disk_usage", limited)


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="shared memory of Linux")
@pytest.mark.parametrize("size", [TRAINED - 1, TRAINED + 1000])
def test_too_little_shared_memory_is_refused(root, tmp_path, monkeypatch, size):
    free(monkeypatch, size)
    config = configuration(root, tmp_path, "data.num_workers=2", "trainer.max_epochs=1")
    if size > TRAINED:
        assert train(config, tmp_path) == 0
        return
    with pytest.raises(DataError, match=r"/dev/shm: found 0.* MB.*--shm-size.*data\.num_workers=0"):
        train(config, tmp_path)
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_loading_in_this_process_needs_none(root, tmp_path, monkeypatch):
    free(monkeypatch, 0)
    assert train(configuration(root, tmp_path, "trainer.max_epochs=1"), tmp_path) == 0


def test_memory_that_is_used_up_later_ends_training(root, tmp_path, monkeypatch):
    def full(self: torch.Tensor) -> None:
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    with pytest.raises(DataError, match=r"shared memory.*No space left on device.*--shm-size"):
        train(configuration(root, tmp_path, "data.num_workers=2"), tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="shared memory of Linux")
def test_the_command_ends(root, tmp_path):
    program = (
        "import shutil\nfrom unittest.mock import Mock\nusage = shutil.disk_usage\n"
        "shutil.disk_usage = lambda path: Mock(free=64) if path == '/dev/shm' else usage(path)\n"
        "import pti.train.__main__\npti.train.__main__.main()\n"
    )
    with start(tmp_path, *arguments(root, "data.num_workers=2"), program=["-c", program]) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, output
    assert "Error: /dev/shm: found 6.4e-05 MB" in output
    assert "Traceback" not in output
