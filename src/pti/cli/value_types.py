"""Comparison of a value's type on the command line with the type of the default."""

from collections.abc import Mapping
from typing import Any

_ANY_TYPE = ("auto", "???")  # defaults that stand for values of other types too


def raw_value(config: Any, key: str) -> Any:
    """Return the value of a dotted key in nested dicts, interpolations unresolved; None if it is absent."""
    for part in key.split("."):
        config = config.get(part) if isinstance(config, Mapping) else None
    return None if config == "???" else config


def expected_type(default: Any, value: Any) -> str | None:
    """Describe the expected type if ``value`` cannot replace ``default``; None if it can."""
    if default is None or value is None or (isinstance(value, str) and value.startswith("${")):
        return None
    if isinstance(default, str):
        free = default in _ANY_TYPE or default.startswith("${")
        return "text" if not free and isinstance(value, (dict, list)) else None
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(default, int):
        return None if isinstance(value, int) and not isinstance(value, bool) else "a whole number"
    if isinstance(default, float):
        return None if isinstance(value, (int, float)) and not isinstance(value, bool) else "a number"
    if isinstance(default, list):
        return None if isinstance(value, list) else "a list, [a,b,c]"
    return None if isinstance(value, dict) else "a group of keys"
