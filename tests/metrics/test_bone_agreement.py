import math

import numpy as np
import pytest

from pti.metrics.bone_agreement import LENGTHS, OVERLAP, SIMILARITY, compare_images, find_bone, ratio_columns


def block(top: int = 10, bottom: int = 50) -> np.ndarray:
    raw = np.zeros((64, 64), np.float32)
    raw[top:bottom, 20:40] = 1000
    return raw


def test_equal_images_agree_exactly():
    metrics, lengths = compare_images(find_bone(block(), 0.15), block(), 1000)
    assert set(metrics) == {*SIMILARITY, *OVERLAP}
    assert metrics["mae"] == metrics["hausdorff95_mm"] == metrics["crest_shift_mm"] == 0
    assert metrics["dice"] == metrics["iou"] == 1
    assert lengths == pytest.approx(find_bone(block(), 0.15).lengths, nan_ok=True)


def test_a_lower_ridge_is_lower_by_its_rows():
    metrics, lengths = compare_images(find_bone(block(), 0.5), block(top=14), 1000)
    assert lengths["height"] == 18
    assert metrics["crest_shift_mm"] == 2
    assert metrics["dice"] == pytest.approx(2 * 36 / 76)


def test_no_bone_is_wrong_by_the_whole_bone():
    metrics, lengths = compare_images(find_bone(block(), 0.15), np.zeros((64, 64), np.float32), 1000)
    assert metrics["dice"] == 0
    assert set(lengths.values()) == {0.0}
    assert math.isnan(metrics["hausdorff95_mm"])
    assert set(lengths) == {*LENGTHS, "area"}


def test_ratios_and_steps():
    columns = ratio_columns(20.0, 20.75, 0.15)
    assert columns["ratio"] == pytest.approx(20 / 20.75)
    assert (columns["within_5px"], columns["within_10px"]) == (1, 1)
    assert (columns["above_0.90"], columns["above_0.95"], columns["above_0.97"]) == (1, 1, 0)
    assert ratio_columns(20.0, 20.9, 0.15)["within_5px"] == 0
    assert all(math.isnan(value) for value in ratio_columns(math.nan, 1.0, 0.15).values())
    assert set(ratio_columns(math.nan, 1.0, 0.15)) == set(columns)
