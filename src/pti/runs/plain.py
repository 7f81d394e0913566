"""Plain values: all that a checkpoint may hold, so that opening it executes no code."""

import pickletools
import sys
from typing import Any

import torch
from torch import Tensor

_LEAVES = (str, bytes, bool, int, float, type(None), torch.Size, torch.dtype, torch.device)
_GLOBALS = (
    *("collections.OrderedDict", "__builtin__.set", "builtins.set", "_codecs.encode"),
    *("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter", "torch.Size", "torch.device"),
)
_MAX_DEPTH = 100  # containers within containers; a training run's state has about ten


def require_plain(value: Any, name: str) -> int:
    """Require that a value consists of dense tensors and plain containers.

    Args:
        value: Nested containers.
        name: What the value is, for the message.

    Returns:
        Number of values in it, where one that several containers share counts as often as it occurs;
        `sys.maxsize` or more for a container that contains itself.

    Raises:
        TypeError: Some value is not plain, or nested too deeply; the message names its place.
    """
    return _count(value, name, {}, 0)


def require_plain_pickle(data: bytes) -> None:
    """Require that a pickle names only what plain values need; torch allows calls that take up any memory.

    Raises:
        TypeError: It names something else.
        ValueError: It is damaged.
    """
    for operation, argument, _ in pickletools.genops(data):
        if operation.name in ("GLOBAL", "INST", "STACK_GLOBAL"):
            name = str(argument).replace(" ", ".")
            module, _, attribute = name.rpartition(".")
            known = module in ("torch", "torch.storage") and (
                attribute.endswith("Storage") or isinstance(getattr(torch, attribute, None), torch.dtype)
            )
            if not (known or name in _GLOBALS):
                raise TypeError(f"it names {name}: not plain")


def _count(value: Any, name: str, counts: dict[int, int], depth: int) -> int:
    if isinstance(value, Tensor):
        if value.layout is not torch.strided or value.is_meta or value.is_quantized:
            raise TypeError(f"{name} is not a dense tensor: not plain")
        return 1
    if isinstance(value, _LEAVES):
        return 1
    if not (isinstance(value, dict) or type(value) in (list, tuple, set)):
        raise TypeError(f"{name} is a {type(value).__module__}.{type(value).__qualname__}: not plain")
    if depth > _MAX_DEPTH:
        raise TypeError(f"{name[:200]} … is nested too deeply: not plain")
    if id(value) not in counts:
        counts[id(value)] = sys.maxsize  # until all its items are counted
        total = 1
        if isinstance(value, dict):
            for key, item in value.items():
                total += _count(key, f"a key of {name}", counts, depth + 1)
                total += _count(item, f"{name}[{key!r}]", counts, depth + 1)
        else:
            for index, item in enumerate(value):
                total += _count(item, f"{name}[{index}]", counts, depth + 1)
        counts[id(value)] = total
    return counts[id(value)]
