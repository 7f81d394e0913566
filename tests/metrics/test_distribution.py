import math

import numpy as np
import pytest

from pti.metrics.distribution import compare_sets, diversity, fid, kid


def test_kid_of_one_distribution_is_about_0_and_grows_with_the_shift():
    rng = np.random.default_rng(0)
    found = [kid(rng.normal(0, 1, (300, 8)), rng.normal(shift, 1, (300, 8))) for shift in (0, 0.5, 1)]
    assert found[0] == pytest.approx(0, abs=0.02)
    assert 0.05 < found[1] < found[2]


def test_kid_is_unbiased_at_few_images():
    rng = np.random.default_rng(1)
    found = [kid(rng.normal(0, 1, (10, 4)), rng.normal(0, 1, (10, 4))) for _ in range(400)]
    assert abs(np.mean(found)) < 3 * np.std(found) / 20


def test_fid_of_known_normals():
    rng = np.random.default_rng(2)
    x, y = rng.normal(0, 1, (200_000, 2)), rng.normal((3, 0), (1, 2), (200_000, 2))
    assert fid(x, y) == pytest.approx(9 + 1, rel=0.02)
    assert fid(x, x) == pytest.approx(0, abs=1e-9)


def test_sets_are_compared_with_what_halves_of_the_truth_give():
    rng = np.random.default_rng(3)
    patients = [str(index // 5) for index in range(100)]
    true = rng.normal(0, 5, (100, 6))
    same = compare_sets("a", rng.normal(0, 5, (100, 6)), true, patients)
    other = compare_sets("a", rng.normal(5, 5, (100, 6)), true, patients)
    assert same is not None
    assert other is not None
    assert abs(same.kid) < 3 * same.kid_std
    assert other.kid > 5 * other.kid_std
    assert same.fid_floor > 0
    assert same.kid_floor == other.kid_floor
    assert compare_sets("a", true[:15], true[:15], patients[:15]) is None


def test_diversity_is_the_mean_difference_of_two_samples():
    samples = np.zeros((3, 4, 4))
    samples[1], samples[2] = 1, 3
    assert diversity(samples, np.ones((4, 4), bool)) == pytest.approx((1 + 3 + 2) / 3)
    assert math.isnan(diversity(samples, np.zeros((4, 4), bool)))
