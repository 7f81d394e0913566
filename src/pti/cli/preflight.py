"""Checks that the preflights of several commands share; they import nothing heavy."""

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf

from pti.common.errors import UsageError
from pti.common.path_settings import setting
from pti.runs.locate import resolve

SPLITS = ("train", "val", "test")
MAX_SEED = 2**32 - 1
POSITIVE = (1, None)
"""Range of whole numbers from 1."""


def is_overridden(key: str) -> bool:
    """Return whether the command line sets a key; call in a preflight or a run."""
    return any(text.lstrip("+").startswith(f"{key}=") for text in HydraConfig.get().overrides.task)


def require_folder(key: str, value: Any, hint: str = "") -> Path:
    """Return the existing folder that ``key`` names.

    Raises:
        UsageError: The key is not set or does not name a folder.
    """
    hint = f" {hint}" if hint else ""
    if value in (None, "???"):
        raise UsageError(f"{key} is not set: expected a folder.{hint}")
    path = Path(str(value))
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        hint += " Several values are a sweep, which needs the option -m." if "," in str(value) else ""
        raise UsageError(f"{setting(key, value)}: expected a folder, found {found} there.{hint}")
    return path


def require_file(key: str, value: Any) -> None:
    """Refuse a value that is set and is not an existing file.

    Raises:
        UsageError: The file does not exist.
    """
    if value is not None and not Path(str(value)).is_file():
        raise UsageError(f"{setting(key, value)}: expected a file, found none there.")


def require_checkpoint_and_images(config: DictConfig) -> None:
    """Check the keys of commands that apply a checkpoint: ``ckpt``, and ``input_dir`` or a data set.

    Raises:
        UsageError: The checkpoint or the folder does not exist, or both images and a data set are named.
    """
    if config.ckpt is None:
        raise UsageError("ckpt is not set: expected a checkpoint's path, best, last, or best:EXPERIMENT.")
    for name in listed(config.ckpt):
        resolve(name)
    if config.input_dir is not None:
        require_folder("input_dir", config.input_dir)
        given = [f"data.{key}" for key, value in config.data.items() if value is not None]
        if given:
            raise UsageError(f"input_dir and {', '.join(given)} are set: expected one or the other.")
    elif config.data.root is not None:
        require_folder("data.root", config.data.root)


def listed(value: Any) -> list[str]:
    """Return one value or a list of values as a list of texts; empty for None."""
    if value is None:
        return []
    return [str(item) for item in value] if isinstance(value, (list, ListConfig)) else [str(value)]


def require_one_of(config: DictConfig, choices: Mapping[str, Collection[str | None]]) -> None:
    """Check that keys hold one of their choices, or a list of them.

    Raises:
        UsageError: A value is not among the choices of its key.
    """
    for key, allowed in choices.items():
        value = OmegaConf.select(config, key)
        for item in value if isinstance(value, ListConfig) else [value]:
            if item not in allowed:
                names = ", ".join("null" if name is None else name for name in allowed)
                raise UsageError(f"{key}={'null' if item is None else item}: expected one of {names}.")


def require_in_range(
    config: DictConfig, ranges: Mapping[str, tuple[float, float | None]], whole: bool = False
) -> None:
    """Check that numbers lie in their ranges, both ends included, None for no upper end; null is accepted.

    Args:
        config: The configuration.
        ranges: Key -> lowest and highest number.
        whole: Accept whole numbers only.

    Raises:
        UsageError: A value is not a number, or out of range.
    """
    for key, (low, high) in ranges.items():
        value = OmegaConf.select(config, key)
        number = isinstance(value, int if whole else (int, float))
        if value is not None and not (number and low <= value <= (math.inf if high is None else high)):
            expected = f"{low} or more" if high is None else f"{low} to {high}"
            raise UsageError(f"{key}={value}: expected {'a whole number, ' if whole else ''}{expected}.")


def require_seed(config: DictConfig) -> None:
    """Check the keys ``seed``, ``data.seed`` and ``data.split_seed``, if the command has them.

    Raises:
        UsageError: One is not a number that all libraries accept as a seed.
    """
    seeds = {"seed": config.get("seed", 0)}
    for key in ("data.seed", "data.split_seed"):
        seeds[key] = 0 if (value := OmegaConf.select(config, key)) is None else value  # null: the default
    for key, seed in seeds.items():
        if not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
            found = "null" if seed is None else seed
            raise UsageError(f"{key}={found}: expected a whole number from 0 to {MAX_SEED} (2**32 - 1).")


def require_above_zero(config: DictConfig, *keys: str) -> None:
    """Check that numbers are larger than 0; null is accepted.

    Raises:
        UsageError: A number is 0 or less.
    """
    for key in keys:
        value = OmegaConf.select(config, key)
        if value is not None and value <= 0:
            raise UsageError(f"{key}={value}: expected more than 0.")
