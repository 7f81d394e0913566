"""Atomic writing of checkpoints: a kill at any time leaves a complete checkpoint on disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO

from pti.common.errors import DataError, with_causes
from pti.runs.plain import require_plain


class AtomicCheckpointIO(CheckpointIO):
    """Write a checkpoint to a temporary file in the same folder, sync it to disk, then rename it.

    A checkpoint may hold only tensors and plain containers, so that opening it executes no code.

    Args:
        opened: content of the checkpoint that a run resumes from; it is not read again.
    """

    def __init__(self, opened: dict[str, Any] | None = None) -> None:
        self._opened = opened

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: dict[str, Path] | None = None
    ) -> None:
        """Write ``checkpoint`` to ``path``.

        Args:
            checkpoint: nested tensors and plain containers.
            path: the file to write.
            storage_options: ``{"previous": path}`` keeps the replaced file under that name.

        Raises:
            DataError: the file could not be written (disk full, …); the previous file is unchanged.
            TypeError: a value is neither a tensor nor a plain container; the message names it.
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
        # With a full disk, torch's writer may raise a RuntimeError that hides the OSError.
        except (OSError, RuntimeError) as error:
            temporary.unlink(missing_ok=True)
            raise _write_error(path, error) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Return the opened checkpoint once; otherwise read ``path`` without executing code."""
        opened, self._opened = self._opened, None
        if opened is not None:
            return opened
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete the file if it exists."""
        Path(path).unlink(missing_ok=True)


def require_writable(folder: Path) -> None:
    """Create the folder, delete incomplete files that a killed process left there, and write a trial file.

    Raises:
        DataError: the folder is not writable.
    """
    trial = folder / f".trial.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for incomplete in folder.glob(".*.tmp"):
            incomplete.unlink()
        trial.write_bytes(b"trial")
        trial.unlink()
    except OSError as error:
        raise DataError(
            f"{folder}: checkpoints can't be written there ({error.strerror or error}). "
            "Make it writable, or choose another folder with output_dir=FOLDER."
        ) from error


def _keep(path: Path, previous: Path) -> None:
    """Give the file a second name; both names exist and are complete at all times."""
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


def _write_error(path: Path, error: BaseException) -> DataError:
    causes = (cause.strerror for cause in with_causes(error) if isinstance(cause, OSError))
    reason = next(filter(None, causes), str(error).splitlines()[0])
    return DataError(
        f"{path}: the checkpoint could not be written ({reason}). The previous checkpoint is intact. "
        "Free some space or choose another output_dir, then continue with ckpt_path=last."
    )
