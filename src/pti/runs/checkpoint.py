"""Finds, opens and rebuilds checkpoints. Opening one never executes code that came with it.

A checkpoint is a zip file of tensors and plain containers. ``config`` holds the resolved configuration of the
run, ``state_dict`` the weights, with the statistics of the normalisation and averaged weights among them.
"""

from __future__ import annotations

import inspect
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pti.common.errors import DataError
from pti.runs.locate import resolve

if TYPE_CHECKING:
    from lightning import LightningModule

__all__ = ["CheckpointError", "build", "check_targets", "load", "read", "resolve"]

ALLOWED = (
    "pti.data.augment",
    "pti.data.layouts",
    "pti.data.normalization",
    "pti.diffusion",
    "pti.losses",
    "pti.modules",
    "pti.networks",
    "monai.networks",
    "torch.nn",
    "torch.optim",
)
"""The modules whose classes and functions a checkpoint's configuration may name."""

# They measure training only. What they need (a package, weights) may be missing where the model is used.
_NEEDED_FOR_TRAINING_ONLY = ("perceptual",)


class CheckpointError(DataError):
    """A checkpoint can't be used: missing parts, damage, or contents that could execute code."""


def load(path: str | Path, map_location: Any = "cpu") -> LightningModule:
    """The trained module of a checkpoint, in evaluation mode.

    Args:
        path: a checkpoint of this program.
        map_location: the device on which the module is wanted.

    Raises:
        CheckpointError: the file is damaged, isn't ours, names a ``_target_`` outside :data:`ALLOWED`, or its
            weights don't fit its configuration.
    """
    path = Path(path)
    content = read(path)
    config = content.get("config")
    if (
        not isinstance(config, dict)
        or not isinstance(config.get("model"), dict)
        or "state_dict" not in content
    ):
        raise CheckpointError(
            f"{path}: expected a checkpoint of `python -m pti.train`, with `config` and `state_dict`; "
            f"found the keys {', '.join(map(str, list(content)[:8])) or 'none'}."
        )
    model = {**config["model"], **{key: None for key in _NEEDED_FOR_TRAINING_ONLY if key in config["model"]}}
    module = build(model, str(path))
    try:
        module.load_state_dict(content["state_dict"], strict=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: its weights don't fit the model that its configuration describes; written by pti "
            f"{content.get('versions', {}).get('pti', 'of an unknown version')}. {error}"
        ) from error
    return module.to(map_location).eval()


def build(model: dict[str, Any], source: str) -> LightningModule:
    """The module that a checkpoint's ``config["model"]`` describes, with fresh weights.

    Raises:
        CheckpointError: it names something outside :data:`ALLOWED`; ``source`` is named.
    """
    check_targets(model, source)
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    return instantiate(OmegaConf.create(model))


def read(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint on the CPU, every byte of it verified, nothing executed.

    Raises:
        CheckpointError: it isn't there, is damaged, or isn't made of tensors and plain containers.
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
            f"{path}: there is no such checkpoint (a file on this machine is expected)."
        ) from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused, because it holds more than tensors and plain containers, and opening that "
            "could execute code. Expected a checkpoint written by `python -m pti.train`."
        ) from error
    except (zipfile.BadZipFile, OSError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(
            f"{path}: no checkpoint, or a damaged one ({str(error).splitlines()[0]})."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a checkpoint, found a {type(content).__name__}.")
    return content


def check_targets(config: Any, source: str) -> None:
    """Refuse a configuration from a file that names anything but this program's and its libraries' parts.

    The name is judged before anything is imported; then what it leads to, since a module also holds what it
    imports (``torch.nn.functional.torch.load``).

    Raises:
        CheckpointError: a ``_target_`` isn't allowed, or a value would be interpolated.
    """
    for place, key, value in _walk(config):
        if isinstance(value, str) and "${" in value:
            raise CheckpointError(f"{source}: refused, {place}={value} would be evaluated.")
        if key == "_target_" and not (isinstance(value, str) and _is_allowed(value)):
            raise CheckpointError(
                f"{source}: refused, {place}={value} is not among the parts that a checkpoint may name "
                f"({', '.join(ALLOWED)})."
            )


def _walk(value: Any, place: str = "config.model") -> Iterator[tuple[str, str, Any]]:
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, (list, tuple))
        else ()
    )
    for key, item in items:
        inner = f"{place}.{key}"
        yield inner, str(key), item
        yield from _walk(item, inner)


def _is_allowed(target: str) -> bool:
    if not _below_allowed(target) or any(part.startswith("_") for part in target.split(".")):
        return False
    from hydra.utils import get_object

    try:
        found = get_object(target)
    except Exception:
        return False
    return (inspect.isclass(found) or inspect.isroutine(found)) and _below_allowed(
        f"{getattr(found, '__module__', None)}.{getattr(found, '__qualname__', '')}"
    )


def _below_allowed(name: str) -> bool:
    return any(name.startswith(f"{prefix}.") for prefix in ALLOWED)
