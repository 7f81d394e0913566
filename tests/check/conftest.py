"""A small phantom, and a copy of it that a test may break."""

from helpers.checking import data, phantom

__all__ = ["data", "phantom"]
