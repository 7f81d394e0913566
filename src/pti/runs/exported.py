"""Folders that ``python -m pti.export`` writes: a trained model as safetensors and JSON.

``config.json`` holds what a checkpoint holds beside its tensors, and the SHA-256 of ``model.safetensors``, so
that its own SHA-256 identifies the whole folder. Neither file can contain code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pti.common.files import hash_file
from pti.runs.constructors import CheckpointError, shortened

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, WEIGHTS = "config.json", "model.safetensors"

TRUST = "trust/"
"""Beginning of the names of the tensors in the reference for trust; those of modules contain no slash."""

UNKNOWN_FOLDER = "???"
"""Value in ``config.json`` of ``data.root``, ``val_root`` and ``test_root`` that the training had."""

_MAX_CONFIG = 2**24  # bytes


def is_exported(path: Path) -> bool:
    """Tell whether a path is the folder of an exported model."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def hash_model(path: Path) -> str:
    """Compute the SHA-256 of a checkpoint file, or of an exported folder's ``config.json``."""
    return hash_file(path / CONFIG if path.is_dir() else path)


def to_files(content: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Divide a checkpoint's content into ``config.json``, without the hash, and ``model.safetensors``."""
    config: dict[str, Any] = {"format": content["format"], **content["config"]}
    config |= {key: content[key] for key in ("versions", "data_fingerprint") if content.get(key)}
    tensors = dict(content["state_dict"])
    if (trust := content.get("trust")) is not None:
        config["trust"] = {key: value for key, value in trust.items() if key != "distances"}
        for name, columns in trust["distances"].items():
            tensors |= {f"{TRUST}{name}/{key}": value for key, value in columns.items()}
    return config, tensors


def read_exported(folder: Path) -> dict[str, Any]:
    """Read the folder of an exported model as the content of a checkpoint, and verify its checksum.

    Raises:
        CheckpointError: A file is missing, damaged or not of ``python -m pti.export``.
    """
    config = _read_config(folder / CONFIG)
    absent = [key for key in ("format", "model", "data", "weights_sha256") if key not in config]
    if absent or not all(isinstance(config[key], dict) for key in ("model", "data")):
        raise CheckpointError(
            f"{folder}: expected a folder that `python -m pti.export` wrote; found a {CONFIG} "
            f"{'without ' + ', '.join(absent) if absent else 'in which model or data is not an object'}."
        )
    content = {key: config[key] for key in ("format", "versions", "data_fingerprint") if key in config}
    content["config"] = {key: config[key] for key in ("model", "data")}
    tensors = _read_tensors(folder / WEIGHTS, config["weights_sha256"])
    content["state_dict"] = {name: value for name, value in tensors.items() if not name.startswith(TRUST)}
    if isinstance(config.get("trust"), dict):
        content["trust"] = {**config["trust"], "distances": _distances(tensors)}
    return content


def _read_config(path: Path) -> dict[str, Any]:
    from pti.runs.plain import require_plain

    try:
        if path.stat().st_size > _MAX_CONFIG:
            raise ValueError(f"more than {_MAX_CONFIG} bytes")
        config = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        require_plain(config, "it")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: can't be read as JSON, or is damaged ({shortened(error)})."
        ) from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found a {type(config).__name__}.")
    return config


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it contains {name}")


def _read_tensors(path: Path, sha256: Any) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        if hash_file(path) != sha256:
            raise CheckpointError(
                f"{path}: the weights are damaged or belong to another {CONFIG} (wrong SHA-256). Export or "
                "copy the folder again."
            )
        # Cloned: tensors that are mapped to the file would change with it.
        return {name: value.clone() for name, value in load_file(path).items()}
    except CheckpointError:
        raise
    except Exception as error:  # a damaged file may raise anything
        raise CheckpointError(
            f"{path}: not a safetensors file, or a damaged one ({shortened(error)})."
        ) from error


def _distances(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    distances: dict[str, dict[str, Tensor]] = {}
    for path, value in tensors.items():
        if path.startswith(TRUST):
            name, _, key = path.removeprefix(TRUST).partition("/")
            distances.setdefault(name, {})[key] = value
    return distances
