import math

import numpy as np
import pytest

from pti.metrics.distribution import SetDistance, compare_sets, diversity, kid, too_few_patients


def test_kid_of_one_distribution_is_about_0_and_grows_with_the_shift():
    rng = np.random.default_rng(0)
    kids = [kid(rng.normal(0, 1, (300, 8)), rng.normal(shift, 1, (300, 8))) for shift in (0, 0.5, 1)]
    assert kids[0] == pytest.approx(0, abs=0.02)
    assert 0.05 < kids[1] < kids[2]


def test_kid_is_unbiased_at_few_images():
    rng = np.random.default_rng(1)
    kids = [kid(rng.normal(0, 1, (10, 4)), rng.normal(0, 1, (10, 4))) for _ in range(400)]
    assert abs(np.mean(kids)) < 3 * np.std(kids) / 20


def test_kid_of_few_images_by_hand():
    x, y = np.array([[1.0], [2.0], [3.0]]), np.array([[0.0], [4.0]])
    own = ((1 * 2 + 1) ** 3 + (1 * 3 + 1) ** 3 + (2 * 3 + 1) ** 3) / 3
    across = np.mean([(a * b + 1) ** 3 for a in (1, 2, 3) for b in (0, 4)])
    assert kid(x, y) == pytest.approx(own + 1 - 2 * across)


PATIENTS = [str(index // 5) for index in range(100)]


def test_the_kid_floor_comes_from_halves_of_the_true_images():
    rng = np.random.default_rng(3)
    true = rng.normal(0, 5, (100, 6))
    predicted = {"same": rng.normal(0, 5, (100, 6)), "other": rng.normal(5, 5, (100, 6))}
    same, other = compare_sets("lite0", predicted, true, PATIENTS)
    assert [same.method, other.method] == ["same", "other"]
    assert same.kid_mean().low < 0 < same.kid_mean().high
    assert other.kid_mean().low > 0
    assert same.kid_floor == other.kid_floor
    assert (same.kid_mean().count, same.kid_mean().patients) == (100, 20)


def test_with_few_patients_slices_count_as_patients():
    rng = np.random.default_rng(3)
    true, other = rng.normal(0, 1, (2, 10, 6))
    (distance,) = compare_sets("lite0", {"other": other}, true, PATIENTS[:10])
    (own,) = compare_sets("lite0", {"other": other}, true, [str(index) for index in range(10)])
    assert (distance.kid, distance.patients, distance.kid_mean().low) == (own.kid, 10, own.kid_mean().low)
    assert "every slice" in str(too_few_patients(PATIENTS[:10]))


def test_three_slices_are_too_few():
    images = np.eye(3)
    assert compare_sets("lite0", {"same": images}, images, ["a", "b", "c"]) == []
    assert "left out" in str(too_few_patients(["a", "b", "c"]))
    assert too_few_patients(["a", "b", "c", "d"]) is None


def test_methods_are_compared_on_the_same_halves():
    rng = np.random.default_rng(4)
    true = rng.normal(0, 1, (100, 6))
    near = true + rng.normal(0, 0.1, true.shape)
    first, second, again = compare_sets("lite0", {"a": near, "b": near + 1, "c": near}, true, PATIENTS)
    assert (again.kid_minus(first).low, again.kid_minus(first).high) == (0, 0)
    difference = second.kid_minus(first)
    assert difference.value == second.kid - first.kid
    assert difference.low > 0


def paired_sets(count: int, shift: float = 0.0) -> list[list[SetDistance]]:
    """Compare random sets of two slices per patient, 24 patients, with predictions near their true images."""
    rng, sets = np.random.default_rng(5), []
    patients = [str(index // 2) for index in range(48)]
    for _ in range(count):
        centres = np.repeat(rng.normal(0, 1, (24, 16)), 2, axis=0)
        true, predicted = (centres + 0.5 * rng.normal(0, 1, centres.shape) for _ in range(2))
        methods = {"shifted": predicted + shift, "more": predicted + 1.2 * shift}
        sets.append(compare_sets("lite0", methods, true, patients))
    return sets


def test_kid_is_unbiased_for_predictions_near_their_true_images():
    kids = [rows[0].kid for rows in paired_sets(60)]
    assert abs(np.mean(kids)) < 3 * np.std(kids) / np.sqrt(60)


def test_intervals_of_kid_and_its_difference_cover_their_means_over_many_data_sets():
    sets = paired_sets(60, shift=0.5)
    for means in ([row.kid_mean() for row, _ in sets], [row.kid_minus(other) for row, other in sets]):
        truth = np.mean([mean.value for mean in means])
        assert 0.85 <= np.mean([mean.low <= truth <= mean.high for mean in means]) <= 1


def test_diversity_is_the_mean_difference_of_two_samples():
    samples = np.zeros((3, 4, 4))
    samples[1], samples[2] = 1, 3
    assert diversity(samples, np.ones((4, 4), bool)) == pytest.approx((1 + 3 + 2) / 3)
    assert math.isnan(diversity(samples, np.zeros((4, 4), bool)))
