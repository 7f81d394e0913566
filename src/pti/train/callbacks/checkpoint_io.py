"""Writes checkpoints so that a kill at any moment leaves a whole one behind."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from torch import Tensor

from pti.common.errors import DataError

_PLAIN = (str, bytes, bool, int, float, type(None), Tensor, torch.Size, torch.dtype, torch.device)


class AtomicCheckpointIO(CheckpointIO):
    """A checkpoint is written to a temporary file in its own folder, forced to disk, then renamed into place.

    It may hold tensors and plain containers only, so that it opens without executing anything.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: dict[str, Path] | None = None
    ) -> None:
        """Write ``checkpoint``.

        Args:
            checkpoint: tensors and plain containers, nested.
            path: the file to write.
            storage_options: ``{"previous": path}`` keeps the file that is replaced under that name.

        Raises:
            DataError: the file could not be written (disk full, …); the one before it is untouched.
            TypeError: something in the checkpoint isn't plain; names it.
        """
        path = Path(path)
        require_plain(checkpoint, "checkpoint")
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            if storage_options and path.exists():
                _keep(path, storage_options["previous"])
            os.replace(temporary, path)
            _sync_folder(path.parent)
        # When the disk is full, torch's writer may hide the OSError behind a RuntimeError of its own.
        except (OSError, RuntimeError) as error:
            temporary.unlink(missing_ok=True)
            raise DataError(_explain(path, error)) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """The checkpoint's content, opened without executing anything, whatever ``weights_only`` says."""
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete the file if it exists."""
        Path(path).unlink(missing_ok=True)


def require_plain(value: Any, name: str) -> None:
    """Raise TypeError, naming the place, unless ``value`` is made of tensors and plain containers."""
    if isinstance(value, dict):
        for key, item in value.items():
            require_plain(key, f"a key of {name}")
            require_plain(item, f"{name}[{key!r}]")
    elif type(value) in (list, tuple, set):
        for index, item in enumerate(value):
            require_plain(item, f"{name}[{index}]")
    elif not isinstance(value, _PLAIN):
        raise TypeError(f"{name} is a {type(value).__module__}.{type(value).__qualname__}: not plain")


def require_writable(folder: Path) -> None:
    """Make the folder, remove what a killed process left half-written there, and write a trial file.

    Raises:
        DataError: nothing can be written there.
    """
    trial = folder / f".trial.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".*.tmp"):
            left.unlink()
        trial.write_bytes(b"trial")
        trial.unlink()
    except OSError as error:
        raise DataError(
            f"{folder}: checkpoints can't be written there ({error.strerror or error}). "
            "Make it writable, or choose another place with output_dir=FOLDER."
        ) from error


def _keep(path: Path, previous: Path) -> None:
    """Give the file a second name, without a moment in which either name is missing or half-written."""
    temporary = previous.with_name(f".{previous.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, temporary)
    os.replace(temporary, previous)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain(path: Path, error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(error).splitlines()[0]
    return (
        f"{path}: the checkpoint could not be written ({reason}). The one before it is whole. "
        "Make room or choose another place, then continue with ckpt_path=last."
    )
