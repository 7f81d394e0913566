"""Memory-mapped arrays that are built once and shared by loader processes, ranks and runs.

A cache is a folder of such arrays, named after a hash of everything that its content depends on. It may be
deleted at any time between runs.
"""

import contextlib
import logging
import math
import os
import re
import shutil
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np

UNUSED_DAYS = 30
"""Age, in days since it was last opened, at which a cache makes room for a new one."""

_CACHE_NAME = re.compile(r"[0-9a-f]{16}-\d+|[0-9a-f]{24}")  # of images and of latents
_CACHE_FILE = re.compile(r"(images|view_\d+)\.(npy|part)|rows\.json|\.lock")
_LOG = logging.getLogger(__name__)


class MappedArray:
    """A float32 array in a ``.npy`` file, which each process maps into memory at its first access.

    The file has another name until it is complete, so that an interrupted build never passes for a finished
    one. To build it, call `create`, fill `unfinished` from any number of processes, then call `finish`.

    Args:
        path: The ``.npy`` file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def exists(self) -> bool:
        """Whether the complete file exists."""
        return self.path.is_file()

    @cached_property
    def values(self) -> np.ndarray:
        """The complete array, read-only."""
        return np.load(self.path, mmap_mode="r")

    def create(self, shape: Sequence[int]) -> None:
        """Create the unfinished file, and its folder, and allocate its space on the disk.

        Raises:
            OSError: The folder can't be written, or the disk is full.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(self._part, "wb") as file:
                header = {"descr": "<f4", "fortran_order": False, "shape": tuple(shape)}
                np.lib.format.write_array_header_1_0(file, header)
                _allocate(file, 4 * math.prod(shape))
        except OSError:
            self.discard()
            raise

    def unfinished(self) -> np.memmap:
        """Map the unfinished file for writing; flush it before `finish`."""
        return np.load(self._part, mmap_mode="r+")

    def finish(self) -> None:
        """Give the file, now complete, its final name."""
        os.replace(self._part, self.path)

    def discard(self) -> None:
        """Remove the unfinished file."""
        with contextlib.suppress(OSError):
            self._part.unlink(missing_ok=True)

    @property
    def _part(self) -> Path:
        return self.path.with_suffix(".part")

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}  # pickling a mapping would send its entire content to a spawned process


def mark_used(folder: Path) -> None:
    """Record that a cache was opened now."""
    with contextlib.suppress(OSError):  # another user's cache, or a read-only disk
        os.utime(folder)


def remove_unused(parent: Path) -> list[Path]:
    """Remove the caches below ``parent`` that were not opened for :data:`UNUSED_DAYS`, and nothing else.

    Returns:
        The removed folders. Each can be built again from its images.
    """
    oldest, removed = time.time() - UNUSED_DAYS * 86400, []
    for folder in sorted(parent.iterdir()):
        with contextlib.suppress(OSError):
            ours = _CACHE_NAME.fullmatch(folder.name) and all(map(_CACHE_FILE.fullmatch, os.listdir(folder)))
            if ours and folder.stat().st_mtime < oldest:
                shutil.rmtree(folder)
                removed.append(folder)
    if removed:
        _LOG.info("Removed %d caches that were not used for %d days.", len(removed), UNUSED_DAYS)
    return removed


def _allocate(file: IO[bytes], size: int) -> None:
    """Allocate disk space now: a full disk is an error here, but kills a process that writes to a mapping."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), file.tell(), size)
        return
    for start in range(0, size, 2**20):
        file.write(bytes(min(2**20, size - start)))
