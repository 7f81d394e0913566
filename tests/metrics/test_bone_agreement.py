import math

import numpy as np
import pytest

from pti.metrics.bone_agreement import (
    CREST,
    LENGTHS,
    OVERLAP,
    SIMILARITY,
    compare_images,
    find_bone,
    ratio_columns,
)


def block(top: int = 10, bottom: int = 50) -> np.ndarray:
    raw = np.zeros((64, 64), np.float32)
    raw[top:bottom, 20:40] = 1000
    return raw


def test_equal_images_agree_exactly():
    metrics, lengths = compare_images(find_bone(block(), 0.15), block(), 1000)
    assert set(metrics) == {*SIMILARITY, *OVERLAP, *CREST}
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


def test_crests_are_compared_by_their_ratio():
    smooth, ragged = block(), block()
    ragged[10:14, 20:40:4] = ragged[10:14, 21:40:4] = 0
    true, rough = (find_bone(image, 0.3) for image in (smooth, ragged))
    assert rough.crest_roughness > 2 * true.crest_roughness > 0
    metrics, _ = compare_images(true, ragged, 1000)
    assert metrics["crest_roughness_mm"] == rough.crest_roughness
    assert metrics["crest_roughness_ratio"] == pytest.approx(rough.crest_roughness / true.crest_roughness)
    metrics, _ = compare_images(true, np.zeros_like(smooth), 1000)
    assert all(math.isnan(metrics[name]) for name in CREST)


def test_a_straight_true_crest_gives_no_ratio():
    wide = np.zeros((64, 700), np.float32)
    wide[20:60, 10:690] = 1000
    ragged = wide.copy()
    ragged[20, ::5] = 0
    metrics, _ = compare_images(find_bone(wide, 0.3), ragged, 1000)
    assert metrics["crest_roughness_mm"] > 0
    assert math.isnan(metrics["crest_roughness_ratio"])


def test_ratios_and_steps():
    columns = ratio_columns(20.0, 20.75, 0.15)
    assert columns["ratio"] == pytest.approx(20 / 20.75)
    assert (columns["within_5px"], columns["within_10px"]) == (1, 1)
    assert (columns["above_0.90"], columns["above_0.95"], columns["above_0.97"]) == (1, 1, 0)
    assert ratio_columns(20.0, 20.9, 0.15)["within_5px"] == 0
    assert all(math.isnan(value) for value in ratio_columns(math.nan, 1.0, 0.15).values())
    assert set(ratio_columns(math.nan, 1.0, 0.15)) == set(columns)
