"""Caches of data sets that nobody trains on any more make room when a new one is built."""

import contextlib
import logging
import os
import re
import shutil
import time
from pathlib import Path

_LOG = logging.getLogger(__name__)

UNUSED_DAYS = 30
_NAME = re.compile(r"[0-9a-f]{16}-\d+|[0-9a-f]{24}")  # of images, of latents
_FILE = re.compile(r"(images|view_\d+)\.npy|view_\d+\.part|rows\.json")


def mark_used(folder: Path) -> None:
    """Note that a cache was opened now."""
    with contextlib.suppress(OSError):  # somebody else's, or a disk that can't be written
        os.utime(folder)


def remove_unused(parent: Path) -> list[Path]:
    """Remove the caches below ``parent`` that weren't opened for :data:`UNUSED_DAYS`; nothing else.

    Returns:
        the folders that are gone. Each can be built again from its images.
    """
    before, gone = time.time() - UNUSED_DAYS * 86400, []
    for folder in sorted(parent.iterdir()):
        with contextlib.suppress(OSError):
            if _is_cache(folder) and folder.stat().st_mtime < before:
                shutil.rmtree(folder)
                folder.with_name(f"{folder.name}.lock").unlink(missing_ok=True)
                gone.append(folder)
    if gone:
        _LOG.info("Removed %d caches that were not used for %d days.", len(gone), UNUSED_DAYS)
    return gone


def _is_cache(folder: Path) -> bool:
    return (
        _NAME.fullmatch(folder.name) is not None
        and folder.is_dir()
        and all(_FILE.fullmatch(file.name) for file in folder.iterdir())
    )
