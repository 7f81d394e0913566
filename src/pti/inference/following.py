"""The settings of the data set that the next command needs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from pti.runs.exported import UNKNOWN_FOLDER

_ROOTS = ("data.root", "data.val_root", "data.test_root")
_KEYS = (*_ROOTS, *(f"data.{key}" for key in ("split_seed", "fractions", "folds", "fold", "allow_links")))
"""Keys of ``conf/inference.yaml``, which every command that applies a checkpoint has."""


def data_arguments(data: Mapping[str, Any], arguments: Sequence[str]) -> str:
    """Return what to type behind ``ckpt=`` so that the next command finds the data set.

    Args:
        data: The stored ``data`` section of the checkpoint.
        arguments: Command line of this command, without the program.

    Returns:
        The settings that this command was given, and ``data.root=FOLDER`` for each folder that nobody has
        named, as in an exported model; with a space before, or empty.
    """
    given = [text for text in arguments if text.split("=")[0] in _KEYS]
    named = {text.split("=")[0] for text in given}
    missing = [key for key in _ROOTS if data.get(key.removeprefix("data.")) == UNKNOWN_FOLDER]
    words = [*map(shlex.quote, given), *(f"{key}=FOLDER" for key in missing if key not in named)]
    return "".join(f" {word}" for word in words)
