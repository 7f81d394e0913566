"""Weights in files, checkpoints or not, and what of them fits a network.

A file is one of our checkpoints or the folder of an exported one, a state dict as ``torch.save`` writes it
(alone, or within a larger dict), or a ``.safetensors`` file. None of them is opened in a way that could
execute code.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pti.common.errors import DataError
from pti.runs.checkpoint import Checkpoint, CheckpointError, is_checkpoint, open_checkpoint, read
from pti.runs.constructors import shortened
from pti.runs.locate import resolve

if TYPE_CHECKING:
    from torch import Tensor

SAFETENSORS = ".safetensors"

_ENOUGH = 0.5
"""Part of a network's names that a file must have below an unexpected prefix: fewer are a coincidence."""


@dataclass(frozen=True)
class Weights:
    """The tensors of a file.

    Attributes:
        path: Absolute path of the file.
        tensors: Dotted name -> tensor; the names of nested dicts are joined.
        checkpoint: The checkpoint, if it is one of ours.
        content: Everything in the file; of a ``.safetensors`` file the tensors.
    """

    path: Path
    tensors: dict[str, Tensor] = field(repr=False)
    checkpoint: Checkpoint | None = None
    content: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Match:
    """What of a file's tensors fits a network.

    Attributes:
        prefix: What the names in the file have before those of the network.
        fitting: Name in the network -> tensor of the same shape.
        other_shape: Name in the network -> shape in the file, shape in the network.
        missing: Names in the network that the file doesn't have.
        unused: Names in the file below the prefix that the network doesn't have.
    """

    prefix: str = ""
    fitting: dict[str, Tensor] = field(default_factory=dict, repr=False)
    other_shape: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every weight of the network is in the file, and nothing is left over."""
        return not (self.other_shape or self.missing or self.unused)


def open_weights(name: str | Path) -> Weights:
    """Open a file of weights.

    Args:
        name: A path, or ``best:EXPERIMENT`` and the like, see `resolve`.

    Raises:
        UsageError: It does not exist.
        CheckpointError: It is damaged, holds no tensors, or could execute code.
    """
    path = resolve(str(name))
    if path.is_dir():
        opened = open_checkpoint(path)
        return Weights(path, opened.state, opened, opened.content)
    if path.suffix == SAFETENSORS:
        content: dict[str, Any] = _read_safetensors(path)
    else:
        content = _read_torch(path)
    if is_checkpoint(content):
        checkpoint = Checkpoint(path, content)
        return Weights(path, checkpoint.state, checkpoint, content)
    tensors = dict(_tensors(content))
    if not tensors:
        found = ", ".join(map(shortened, list(content)[:8])) or "nothing"
        raise CheckpointError(f"{path}: expected weights by name, found no tensor (keys: {found}).")
    return Weights(path, tensors, None, content)


def match(tensors: Mapping[str, Tensor], network: Mapping[str, Tensor], expected: Sequence[str]) -> Match:
    """Find the weights of a network among the tensors of a file, whatever precedes their names there.

    Args:
        tensors: Of the file, by name.
        network: The network's ``state_dict``.
        expected: Prefixes where they are expected, the best one first.

    Returns:
        The match with the most fitting weights; without any, an empty one.
    """
    counts = Counter(
        name[: len(name) - len(own)] for name in tensors for own in _endings(name) if own in network
    )
    least = _ENOUGH * len(network)
    prefixes = [*expected, *(prefix for prefix, count in counts.items() if count >= least)]
    matches = [_match_at(prefix, tensors, network) for prefix in dict.fromkeys(prefixes)]
    best = max(matches, key=lambda found: (len(found.fitting), -matches.index(found)), default=Match())
    return best if best.fitting else Match(missing=tuple(network))


def _match_at(prefix: str, tensors: Mapping[str, Tensor], network: Mapping[str, Tensor]) -> Match:
    there = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    shared = [name for name in network if name in there]
    return Match(
        prefix,
        {name: there[name] for name in shared if there[name].shape == network[name].shape},
        {
            name: (tuple(there[name].shape), tuple(network[name].shape))
            for name in shared
            if there[name].shape != network[name].shape
        },
        tuple(name for name in network if name not in there),
        tuple(name for name in there if name not in network),
    )


def require_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that are not finite.

    Raises:
        DataError: The message names one of them.
    """
    for name, value in tensors.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise DataError(f"{path}: {name} holds NaN or infinite values; expected finite weights.")


def _endings(name: str) -> Iterator[str]:
    """Yield a dotted name and all that is left when its first parts are removed."""
    while name:
        yield name
        name = name.partition(".")[2]


def _tensors(content: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in nested dicts, except those of optimizers, which are not weights."""
    import torch

    for key, value in content.items() if isinstance(content, dict) else ():
        if not isinstance(key, str) or "optim" in key.lower():
            continue
        if isinstance(value, torch.Tensor):
            yield prefix + key, value
        elif isinstance(value, dict):
            yield from _tensors(value, f"{prefix}{key}.")


def _read_torch(path: Path) -> dict[str, Any]:
    if not zipfile.is_zipfile(path):
        raise CheckpointError(
            f"{path}: expected a file of torch.save (a zip file), or one called *{SAFETENSORS}. A file of a "
            "torch older than 1.6 has to be loaded and saved again."
        )
    try:
        return read(path)
    except CheckpointError as error:
        raise CheckpointError(
            f"{error} For weights of another program, expected torch.save(model.state_dict(), FILE)."
        ) from error


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except Exception as error:
        raise CheckpointError(f"{path}: a damaged {SAFETENSORS} file ({shortened(error)}).") from error
