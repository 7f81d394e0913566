"""Tiny data sets that tests share."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pti.data import tif

WriteSet = Callable[..., Path]


def disc(seed: int, size: int = 32) -> np.ndarray:
    """A raw image (size, size) float32: an ellipse of tissue from 200 to 1200, background exactly 0."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    tissue = (x / generator.uniform(0.4, 0.6)) ** 2 + (y / generator.uniform(0.6, 0.8)) ** 2 < 1
    return (tissue * generator.uniform(200, 1200, (size, size))).astype(np.float32)


@pytest.fixture
def write_set(tmp_path: Path) -> WriteSet:
    """Write pairs in the design's layout: ``write_set(patients=3, slices=2, size=32, root=…)``."""

    def write(patients: int = 3, slices: int = 2, size: int = 32, root: Path = tmp_path / "set") -> Path:
        for number, folder in enumerate(("dente", "edente")):
            (root / folder).mkdir(parents=True, exist_ok=True)
            for patient in range(patients):
                for position in range(slices):
                    name = f"{position:03d}_HA_2021_02_{patient:03d}.tif"
                    seed = (number * 1000 + patient) * 1000 + position
                    tif.write(root / folder / name, disc(seed, size), pixel_mm=0.15)
        return root

    return write


@pytest.fixture
def paired_set(write_set: WriteSet) -> Path:
    """Six patients with three pairs each, 32 x 32."""
    return write_set(patients=6, slices=3)
