"""Folders that can't be written to: a message before the work, and one for a disk that fills up during it."""

import errno
import os
import re
import shutil
import tempfile
from pathlib import Path

from pti.common.errors import DataError
from pti.common.path_settings import setting

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM}
_FULL_IN_NUMPY = re.compile(r"\d+ requested and \d+ written")  # which has no error number


def require_writable(folder: Path) -> None:
    """Write a trial file into the nearest existing folder in which ``folder`` is or would be created.

    Raises:
        DataError: Nothing can be written there.
    """
    existing = folder.absolute()
    while not os.path.lexists(existing):
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing) as trial:
            trial.write(b"trial" * 1000)
    except OSError as error:
        # The trial file's own name would only confuse.
        raise storage_error(OSError(error.errno, error.strerror), folder) or DataError(
            f"{setting('output_dir', folder)}: can't be created ({existing}: {error.strerror or error}). "
            "Choose another one with output_dir=FOLDER."
        ) from error


def storage_error(error: BaseException, folder: Path | None) -> DataError | None:
    """Explain an error of writing; return None for any other error.

    Args:
        error: The error.
        folder: The command's output folder, if it is known.
    """
    if not isinstance(error, OSError):
        return None
    path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes)) else folder
    place = "the output folder" if path is None else path
    reason = error.strerror or str(error)
    if error.errno in _FULL or _FULL_IN_NUMPY.search(str(error)):
        again = "" if folder is None else f" with {setting('output_dir', folder)}"
        return DataError(
            f"{place}: the disk is full ({reason}; {_free(path)} MB free). Free some space, then run the "
            f"same command{again} again; translate, reconstruct and evaluate continue where they stopped."
        )
    if error.errno in _REFUSED:
        return DataError(
            f"{place}: access is refused ({reason}). Make it writable, or choose another folder with "
            "output_dir=FOLDER."
        )
    return None


def _free(path: Path | None) -> str:
    """Format the free space in MB of the file system that a path is or would be on."""
    existing = Path() if path is None else path.absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        return f"{shutil.disk_usage(existing).free / 1e6:,.1f}"
    except OSError:
        return "an unknown number of"
