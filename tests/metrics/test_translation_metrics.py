"""Metrics of an image's samples."""

import numpy as np
import pytest

from pti.metrics.translation import (
    bone_height_mm,
    mean_image,
    median_sample,
    spread_image,
    translation_metrics,
)


def bone(height: int, value: float = 1000) -> np.ndarray:
    """(32, 32) raw image with a block of bone on row 28."""
    raw = np.zeros((32, 32), np.float32)
    raw[28 - height : 28, 10:22] = value
    return raw


@pytest.mark.parametrize(
    ("heights", "expected"),
    [([5], 0), ([9, 1, 5], 2), ([4, 1, 2, 9], 0), ([1, 2, 3, 3.5], 1), ([7, 7, 7], 1), ([1, 3], 0)],
)
def test_median_sample(heights, expected):
    assert median_sample(heights) == expected


def test_a_sample_without_bone_is_wrong_by_the_whole_height():
    assert bone_height_mm(np.zeros((32, 32), np.float32), 0.2) == 0
    metrics = translation_metrics(bone(20), [np.zeros((32, 32), np.float32)], 0.2, 1000.0, bone(10))
    assert metrics["height_error_mm"] == pytest.approx(2.0)
    assert metrics["samples"][0]["bone_dice"] == 0


def test_metrics_of_samples_and_of_their_mean():
    samples = [bone(height) for height in (8, 10, 14)]
    metrics = translation_metrics(bone(20), samples, 0.5, 1000.0, bone(11))
    assert metrics["condition_height_mm"] == 10
    assert metrics["target_height_mm"] == 5.5
    assert metrics["median_sample"] == 1
    assert metrics["height_error_mm"] == pytest.approx(0.5)
    assert [sample["height_error_mm"] for sample in metrics["samples"]] == pytest.approx([1.5, 0.5, 1.5])
    assert metrics["height_spread_mm"] == pytest.approx(np.std([4, 5, 7], ddof=1))
    # Two of three samples reach row 18, one row 14: the mean's bone is that of the majority.
    assert metrics["bone_dice"] == pytest.approx(2 * 10 / 21)
    assert metrics["psnr"] > metrics["samples"][2]["psnr"]


def test_without_a_target_only_heights_are_known():
    metrics = translation_metrics(bone(20), [bone(10)], 0.5, 1000.0)
    assert "height_error_mm" not in metrics
    assert metrics["samples"] == [{"bone_height_mm": 5.0}]


def test_mean_and_spread():
    images = [bone(4, 900), bone(4, 1100), bone(4, 1000)]
    assert mean_image(images)[27, 15] == 1000
    assert spread_image(images)[27, 15] == 100
    assert mean_image(images).dtype == spread_image(images).dtype == np.float32
