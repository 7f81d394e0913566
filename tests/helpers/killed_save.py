"""A save of a checkpoint that is killed: ``python -m helpers.killed_save FOLDER OPERATION LINKS``."""

import io
import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from pti.train.callbacks import checkpoint_io
from pti.train.callbacks.checkpoint_io import AtomicCheckpointIO

_CALLS = ("open", "os.rename", "os.link", "os.remove", "shutil.copyfile")


def save(folder: Path, step: int) -> None:
    """Save a checkpoint of a step; the one before is kept."""
    content = {"step": step, "weights": torch.full((20_000,), float(step))}
    previous = {"previous": folder / "last-1.ckpt"}
    AtomicCheckpointIO().save_checkpoint(content, folder / "last.ckpt", previous)


def save_until_killed(folder: Path, killed_at: int, links: bool) -> None:
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
        lambda event, given: boundary() if event in _CALLS and str(folder) in str(given) else None
    )
    save(folder, 3)


if __name__ == "__main__":
    save_until_killed(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True")
