"""Synthetic images for tests."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

WriteSet = Callable[..., Path]


def disc(seed: int, size: int = 32) -> np.ndarray:
    """Return a raw image, (size, size) float32: an ellipse of tissue (200 to 1200) on background 0."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    tissue = (x / generator.uniform(0.4, 0.6)) ** 2 + (y / generator.uniform(0.6, 0.8)) ** 2 < 1
    return (tissue * generator.uniform(200, 1200, (size, size))).astype(np.float32)
