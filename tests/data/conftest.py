"""Fixtures: a small phantom, and a linked copy that a test may break."""

from helpers.checking import data, phantom

__all__ = ["data", "phantom"]
