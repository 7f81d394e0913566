"""Ranks of samples: uniform each, and spread evenly over an image's samples."""

import numpy as np
import pytest

from pti.common.randomness import sample_rank


@pytest.mark.parametrize("samples", [1, 2, 5, 8, 30])
def test_the_samples_of_an_image_are_spread_evenly(samples: int):
    for image in range(20):
        ranks = np.sort([sample_rank(0, f"image {image}", sample) for sample in range(samples)])
        gaps = np.diff(ranks, append=ranks[0] + 1)
        assert gaps.max() <= 2.7 / samples or samples == 1


def test_each_sample_is_uniform_over_images():
    for sample in (0, 7):
        ranks = [sample_rank(1, f"image {image}", sample) for image in range(2000)]
        assert np.histogram(ranks, 10, (0, 1))[0] == pytest.approx(200, abs=60)


def test_seed_and_name_decide():
    assert sample_rank(0, "a", 3) == sample_rank(0, "a", 3)
    assert len({sample_rank(seed, name, 3) for seed in (0, 1) for name in "ab"}) == 4
