"""Opening of checkpoints, without executing code that comes with them.

A checkpoint is a zip file of tensors and plain containers. ``config`` holds the resolved configuration of the
run, ``state_dict`` the weights (with averaged weights and the statistics of the normalisation), ``format``
the number of the format.
"""

from __future__ import annotations

import contextlib
import zipfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pti.common.files import hash_file
from pti.runs.constructors import CheckpointError, build
from pti.runs.locate import fallbacks, resolve
from pti.runs.renamed import FORMAT, migrate

if TYPE_CHECKING:
    from torch import Tensor, nn


class ForeignFileError(CheckpointError):
    """The file is not a checkpoint of ``python -m pti.train``."""


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint.

    Attributes:
        path: Absolute path of the file.
        content: Everything in it, in the present format.
    """

    path: Path
    content: dict[str, Any] = field(repr=False)

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration of the training run, plain."""
        return self.content["config"]

    @property
    def state(self) -> dict[str, Tensor]:
        """The weights by name (``state_dict``)."""
        return self.content["state_dict"]

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        return hash_file(self.path)

    def load_module(self, map_location: Any = "cpu") -> nn.Module:
        """Build the trained module, load its weights and switch it to evaluation mode.

        Args:
            map_location: Device to put the module on.

        Raises:
            CheckpointError: The configuration is refused, or the weights do not fit it.
        """
        module = build(self.config["model"], str(self.path))
        try:
            module.load_state_dict(self.state, strict=True)
        except RuntimeError as error:
            raise CheckpointError(
                f"{self.path}: its weights don't fit the model that its configuration describes; written by "
                f"pti {self.content.get('versions', {}).get('pti', 'of an unknown version')}. {error}"
            ) from error
        return module.to(map_location).eval()


def open_checkpoint(name: str | Path) -> Checkpoint:
    """Find, read and verify a checkpoint.

    Args:
        name: Path, or ``last``, ``best``, ``last:EXPERIMENT``, ``best:EXPERIMENT``; see `resolve`.

    Raises:
        UsageError: The checkpoint does not exist.
        ForeignFileError: It was not written by this program.
        CheckpointError: It is damaged, could execute code, or was written by a newer version.
    """
    path = resolve(str(name))
    content = read(path)
    config = content.get("config")
    has_model = isinstance(config, dict) and isinstance(config.get("model"), dict)
    if not has_model or "state_dict" not in content:
        raise ForeignFileError(
            f"{path}: expected a checkpoint of `python -m pti.train`, with `config` and `state_dict`; "
            f"found the keys {', '.join(map(str, list(content)[:8])) or 'none'}."
        )
    return Checkpoint(path, content)


def open_intact(path: Path) -> tuple[Checkpoint, CheckpointError | None]:
    """Open a checkpoint, or where it is damaged, the newest intact one that was saved before it.

    Returns:
        The checkpoint, and the damage of ``path`` where another one takes its place.

    Raises:
        CheckpointError: None of them is intact; the message is about ``path``.
    """
    try:
        return open_checkpoint(path), None
    except ForeignFileError:
        raise
    except CheckpointError as damage:
        for other in fallbacks(path):
            with contextlib.suppress(CheckpointError):
                return open_checkpoint(other), damage
        raise


def read(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint's content on the CPU, in the present format, and verify its checksums.

    Raises:
        CheckpointError: It does not exist, is damaged, holds more than tensors and plain containers, or was
            written by a newer version.
    """
    import pickle

    import torch

    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch itself doesn't compare the checksums
        if damaged is not None:
            raise CheckpointError(f"{path}: the checkpoint is damaged (wrong checksum in {damaged}).")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path}: there is no such checkpoint; expected a file on this machine."
        ) from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused, because it holds more than tensors and plain containers, and opening that "
            "could execute code. Expected a checkpoint written by `python -m pti.train`."
        ) from error
    except (zipfile.BadZipFile, OSError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a checkpoint, or a damaged one ({str(error).splitlines()[0]})."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a checkpoint, found a {type(content).__name__}.")
    written = content.get("format", 1)
    if not isinstance(written, int) or written > FORMAT:
        raise CheckpointError(
            f"{path}: found format {written}, expected at most {FORMAT}. It was written by a newer version "
            "of pti; install that version to use it."
        )
    return migrate(content)


def load(path: str | Path, map_location: Any = "cpu") -> Any:
    """Load the module of a checkpoint; a function of the path alone, which worker processes can receive."""
    return open_checkpoint(path).load_module(map_location)
