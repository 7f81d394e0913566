"""The JSON files of PTI-LDM-VAE's scripts: ``vae_config.json``, or ``environment_tif.json`` and another."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pti.common.errors import DataError
from pti.common.path_settings import setting

_REFERENCE = re.compile(r"\$?@(\w+)")
_MAX_DEPTH = 20


def read_settings(paths: Sequence[Path]) -> dict[str, Any]:
    """Read and join the scripts' settings, without comments, and with references resolved.

    Keys that start with ``_`` are comments. ``"@key"`` (MONAI's bundle syntax) stands for another key.

    Args:
        paths: One unified file, or the file of paths and the file of hyperparameters.

    Raises:
        DataError: A file is not a JSON object, or refers to a key that does not exist.
    """
    joined: dict[str, Any] = {}
    for path in paths:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: expected a JSON file of settings ({error}).") from error
        if not isinstance(content, dict):
            raise DataError(f"{path}: expected a JSON object, found a {type(content).__name__}.")
        joined |= _without_comments(content)
    return {key: _resolved(value, joined, key) for key, value in joined.items()}


def section(settings: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a dict in the settings; empty if it's missing.

    Raises:
        DataError: It is something else.
    """
    value = settings.get(name)
    if value is not None and not isinstance(value, dict):
        raise DataError(f"{setting('config', name)}: expected an object, found {value!r}.")
    return value or {}


def _without_comments(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            str(key): _without_comments(item)
            for key, item in value.items()
            if key == "_target_" or not str(key).startswith("_")
        }
    return [_without_comments(item) for item in value] if isinstance(value, list) else value


def _resolved(value: Any, settings: dict[str, Any], key: str, depth: int = 0) -> Any:
    if isinstance(value, dict):
        return {name: _resolved(item, settings, f"{key}.{name}", depth) for name, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item, settings, key, depth) for item in value]
    if not (isinstance(value, str) and value.startswith(("@", "$"))):
        return value
    reference = _REFERENCE.fullmatch(value)
    if reference is None or reference[1] not in settings or depth > _MAX_DEPTH:
        raise DataError(
            f"config: {key} is {value!r}; expected a value, or @NAME of a key of the file. Write the value "
            "itself."
        )
    return _resolved(settings[reference[1]], settings, key, depth + 1)
