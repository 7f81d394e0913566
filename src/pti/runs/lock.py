"""Exclusive locks on output folders."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pti.common.errors import DataError, UsageError

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
_LOG = logging.getLogger(__name__)


@contextmanager
def exclusive(
    folder: Path, message: str, error: type[DataError] | type[UsageError] = DataError, wait: bool = False
) -> Iterator[None]:
    """Hold the lock of ``folder`` (its file ``.lock``).

    On a file system without locks, a warning is printed, and the body runs unlocked.

    Args:
        folder: Folder to lock; created if it does not exist.
        message: Text of the exception, or of the warning before waiting.
        error: Type of the exception.
        wait: Wait for a process that holds the lock, instead of raising.

    Raises:
        DataError: Another process holds the lock (or `UsageError`, as ``error`` says).
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise error(message) from None
        _LOG.warning(message)
        lock.acquire()
    except (NotImplementedError, OSError) as problem:  # a folder that can't be written is noticed later
        if getattr(problem, "errno", errno.ENOSYS) in _NO_LOCKS:
            _LOG.warning(
                f"{folder}: this file system has no locks ({problem}), so another process in this folder "
                "would not be noticed. Make sure that there is none, or choose a folder on another disk."
            )
    try:
        yield
    finally:
        lock.release()
