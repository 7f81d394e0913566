"""Sizes of the bone in images on disk."""

import numpy as np
import pytest

from pti.data import tif
from pti.inference.bone_sizes import bone_sizes, mean_height_loss_mm


def bone(height: int) -> np.ndarray:
    """(32, 32) raw image with a block of bone on row 28."""
    raw = np.zeros((32, 32), np.float32)
    raw[28 - height : 28, 10:22] = 1000
    return raw


def test_sizes_are_in_millimetres_and_nan_without_bone(tmp_path):
    files = [tmp_path / "bone.tif", tmp_path / "empty.tif"]
    tif.write(files[0], bone(20), 0.5)
    tif.write(files[1], bone(0), 0.5)
    sizes = bone_sizes(files, 0.15)
    assert sizes["height"].tolist() == pytest.approx([10, np.nan], nan_ok=True)
    assert sizes["width_half"][0] == 6
    assert bone_sizes([], 0.15) == {}


def test_mean_height_loss_uses_the_resolution_of_each_file(tmp_path):
    pairs = []
    for number, (before, after, pixel_mm) in enumerate([(20, 10, 0.2), (20, 16, None)]):
        paths = tmp_path / f"{number}_dente.tif", tmp_path / f"{number}_edente.tif"
        for path, height in zip(paths, (before, after), strict=True):
            tif.write(path, bone(height), pixel_mm)
        pairs.append(paths)
    assert mean_height_loss_mm(pairs, 0.5) == pytest.approx((10 * 0.2 + 4 * 0.5) / 2)
