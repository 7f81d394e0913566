"""Opening of checkpoints, without executing code that comes with them.

A checkpoint is a zip file of tensors and plain containers. ``config`` holds the resolved configuration of the
run, ``state_dict`` the weights (with averaged weights and the statistics of the normalisation), ``format``
the number of the format. The folder of an exported model (`pti.runs.exported`) opens like a checkpoint.
"""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pti.runs.constructors import CheckpointError, build, shortened
from pti.runs.exported import hash_model, read_exported
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
        path: Absolute path of the file, or of the folder of an exported model.
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
        """SHA-256 of the file; see `pti.runs.exported.hash_model`."""
        return hash_model(self.path)

    def load_module(self, map_location: Any = "cpu") -> nn.Module:
        """Build the trained module, load its weights and switch it to evaluation mode, without gradients.

        Args:
            map_location: Device to put the module on.

        Raises:
            CheckpointError: The configuration is refused, or the weights do not fit it.
        """
        with _no_larger_than(sum(value.numel() for value in self.state.values()), self.path):
            module = build(self.config["model"], str(self.path))
        try:
            module.load_state_dict(self.state, strict=True)
        except Exception as error:
            versions = self.content.get("versions")
            version = versions.get("pti") if isinstance(versions, dict) else "of an unknown version"
            raise CheckpointError(
                f"{self.path}: its weights don't fit the model that its configuration describes; written by "
                f"pti {version}. {shortened(error)}"
            ) from error
        # Kernels round differently where weights require gradients; those of an average never do.
        return module.to(map_location).eval().requires_grad_(False)


def open_checkpoint(name: str | Path) -> Checkpoint:
    """Find, read and verify a checkpoint, or the folder of an exported model.

    Args:
        name: Path, or ``last``, ``best``, ``last:EXPERIMENT``, ``best:EXPERIMENT``; see `resolve`.

    Raises:
        UsageError: The checkpoint does not exist.
        ForeignFileError: It was not written by this program.
        CheckpointError: It is damaged, could execute code, or was written by a newer version.
    """
    path = resolve(str(name))
    content = _in_present_format(path, read_exported(path)) if path.is_dir() else read(path)
    if not is_checkpoint(content):
        raise ForeignFileError(
            f"{path}: expected a checkpoint of `python -m pti.train`, with `config` and `state_dict`; "
            f"found the keys {', '.join(map(shortened, list(content)[:8])) or 'none'}."
        )
    return Checkpoint(path, content)


def is_checkpoint(content: dict[str, Any]) -> bool:
    """Return whether the content of a file is that of a checkpoint of ``python -m pti.train``."""
    config = content.get("config")
    return isinstance(config, dict) and isinstance(config.get("model"), dict) and "state_dict" in content


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

    Reading needs time and memory in proportion to the size of the file, whatever it contains.

    Raises:
        CheckpointError: It does not exist, is damaged, holds more than tensors and plain containers, or was
            written by a newer version.
    """
    import pickle

    import torch

    from pti.runs.plain import require_plain

    path = Path(path)
    try:
        size = path.stat().st_size
        _check_archive(path, size)
        content = torch.load(path, map_location="cpu", weights_only=True)
        repeated = require_plain(content, "its content") > size
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path}: there is no such checkpoint; expected a file on this machine."
        ) from error
    except (pickle.UnpicklingError, TypeError) as error:
        raise CheckpointError(
            f"{path}: refused, because it holds more than tensors and plain containers, and opening that "
            f"could execute code ({shortened(error)}). Expected a checkpoint of `python -m pti.train`."
        ) from error
    except CheckpointError:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise CheckpointError(f"{path}: not a checkpoint, or a damaged one ({shortened(error)}).") from error
    if repeated:
        raise CheckpointError(f"{path}: refused, because its containers hold each other again and again.")
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a checkpoint, found a {type(content).__name__}.")
    return _in_present_format(path, content)


def _in_present_format(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Check the weights' names and types, and translate what an older version wrote.

    Raises:
        CheckpointError: A newer version wrote it, or the weights are not tensors by name.
    """
    from torch import Tensor

    written = content.get("format", 1)
    if not isinstance(written, int) or written > FORMAT:
        raise CheckpointError(
            f"{path}: found format {shortened(written)}, expected at most {FORMAT}. It was written by a "
            "newer version of pti; install that version to use it."
        )
    weights = content.get("state_dict", {})
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items()
    ):
        raise CheckpointError(f"{path}: expected tensors by name in state_dict; it is damaged.")
    return migrate(content)


def _check_archive(path: Path, size: int) -> None:
    """Verify the checksums of a zip file whose records are not larger than the file.

    Raises:
        CheckpointError: A record is compressed, overlaps with another one, or is damaged.
        TypeError: The pickle names something that plain values do not need.
        zipfile.BadZipFile: It is another file.
    """
    from pti.runs.plain import require_plain_pickle

    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        stored = all(record.compress_type == zipfile.ZIP_STORED for record in records)
        if not stored or sum(record.file_size for record in records) > size:
            raise CheckpointError(
                f"{path}: its zip file declares more than it contains; expected uncompressed records, as "
                "`python -m pti.train` writes them."
            )
        damaged = archive.testzip()  # torch itself doesn't compare the checksums
        for record in records:
            if record.filename.lower().endswith("data.pkl"):  # torch ignores case, too
                require_plain_pickle(archive.read(record))
    if damaged is not None:
        raise CheckpointError(f"{path}: the checkpoint is damaged (wrong checksum in {shortened(damaged)}).")


@contextlib.contextmanager
def _no_larger_than(weights: int, path: Path) -> Iterator[None]:
    """Refuse to create far more weights than a checkpoint contains, before they take up memory."""
    from torch.nn.modules.module import register_module_parameter_registration_hook

    created = 0

    def count(module: nn.Module, name: str, parameter: Tensor | None) -> None:
        nonlocal created
        created += 0 if parameter is None else parameter.numel()
        if created > 2 * weights:  # a parameter may be registered twice
            raise CheckpointError(
                f"{path}: its configuration describes a model with more weights than the {weights} that it "
                "contains."
            )

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def load(path: str | Path, map_location: Any = "cpu") -> Any:
    """Load the module of a checkpoint; a function of the path alone, which worker processes can receive."""
    return open_checkpoint(path).load_module(map_location)
