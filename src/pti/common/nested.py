"""Nested dicts."""

from collections.abc import Mapping
from typing import Any


def flatten(nested: Mapping[str, Any], separator: str = ".", prefix: str = "") -> dict[str, Any]:
    """Map the joined keys of nested dicts to their values; the inner dicts are values too."""
    flat = {}
    for key, value in nested.items():
        flat[f"{prefix}{key}"] = value
        if isinstance(value, Mapping):
            flat |= flatten(value, separator, f"{prefix}{key}{separator}")
    return flat
