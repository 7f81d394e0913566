import math

import numpy as np
import pytest
from scipy.special import ndtri

from pti.metrics.calibration import (
    LEVELS,
    QUANTILES,
    central_interval,
    conformal_correction,
    crps,
    crps_normal,
    interval_coverage,
    patients_needed,
    rank_histogram,
    valid_interval,
)


def draws(count: int, samples: int, spread: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Truths and samples around the same centres; ``spread`` 1 is calibrated."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(20, 2, count)
    return centre[:, None] + spread * rng.normal(0, 1, (count, samples)), centre + rng.normal(0, 1, count)


def test_crps_of_one_sample_is_the_absolute_error():
    assert crps(np.array([[3.0], [1.0]]), np.array([1.0, 4.0])).tolist() == [2, 3]


def test_crps_by_hand():
    # mean |x - y| = (1 + 0 + 3) / 3; pairs |0-1|, |0-4|, |1-4|: mean 8/3, halved 4/3.
    assert crps(np.array([[0.0, 1.0, 4.0]]), np.array([1.0]))[0] == pytest.approx(4 / 3 - 4 / 3)


@pytest.mark.parametrize("samples", [2, 5, 50])
def test_expected_crps_is_that_of_the_distribution_for_any_number_of_samples(samples):
    rng = np.random.default_rng(1)
    truth = rng.normal(0, 1, 20_000)
    score = crps(rng.normal(0, 1, (20_000, samples)), truth).mean()
    expected = crps_normal(np.zeros(20_000), np.ones(20_000), truth).mean()
    assert expected == pytest.approx(1 / math.sqrt(math.pi), rel=0.02)
    assert score == pytest.approx(expected, rel=0.03)


def test_crps_is_nan_without_a_truth():
    assert math.isnan(crps(np.ones((1, 3)), np.array([np.nan]))[0])


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_intervals_of_calibrated_samples_have_nominal_coverage(level):
    samples, truth = draws(20_000, 39)
    low, high = central_interval(samples, level)
    assert np.mean((low <= truth) & (truth <= high)) == pytest.approx(level, abs=0.01)


def quantiles_and_truth(count: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Evenly spread samples of a standard normal distribution, and true values from it."""
    ranks = (np.arange(samples) + 0.5) / samples
    truth = np.random.default_rng(0).normal(size=count)
    return np.tile(ndtri(ranks), (count, 1)), truth


@pytest.mark.parametrize("samples", [8, 39])
@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_intervals_of_evenly_spread_samples_have_nominal_coverage(level, samples):
    values, truth = quantiles_and_truth(20_000, samples)
    low, high = central_interval(values, level, evenly_spread=True)
    coverage = np.mean((low <= truth) & (truth <= high))
    linear = 0.01 if samples > 8 else 0.03  # error of the interpolation between quantiles
    assert coverage == pytest.approx(min(level, (samples - 1) / samples), abs=linear)
    wider_low, wider_high = central_interval(values, level)
    assert np.mean(wider_high - wider_low) >= np.mean(high - low)
    (row,) = [
        row
        for row in interval_coverage("height", values, truth, list(map(str, range(20_000))), None, True)
        if row.level == level
    ]
    assert row.coverage.value == pytest.approx(coverage)


def test_corrections_belong_to_one_kind_of_samples():
    values, truth = quantiles_and_truth(400, 8)
    names = [str(index) for index in range(400)]
    for spread in (False, True):
        correction = conformal_correction(values, truth, names, 0.9, spread)
        low, high = central_interval(values, 0.9, correction, spread)
        assert np.mean((low <= truth) & (truth <= high)) == pytest.approx(0.9, abs=0.01)
    sharp, wide = (valid_interval(values[0], {0.5: 0.0}, spread) for spread in (True, False))
    assert sharp is not None
    assert wide is not None
    assert wide.low < sharp.low < sharp.high < wide.high


def test_few_samples_cover_at_most_their_range():
    samples, truth = draws(20_000, 4)
    low, high = central_interval(samples, 0.9)
    assert np.array_equal(low, samples.min(1))
    assert np.array_equal(high, samples.max(1))
    assert np.mean((low <= truth) & (truth <= high)) == pytest.approx(3 / 5, abs=0.01)


def test_a_negative_correction_shrinks_an_interval_at_most_to_its_centre():
    low, high = central_interval(np.array([[1.0, 2.0, 3.0]]), 0.5, -10.0)
    assert low[0] == high[0] == 2.0


def test_rank_histogram_is_flat_when_calibrated_and_a_bowl_when_too_narrow():
    counts = rank_histogram(*draws(20_000, 9))
    assert counts.sum() == 20_000
    assert counts.min() > 0.9 * counts.max()
    narrow = rank_histogram(*draws(20_000, 9, spread=0.3))
    assert narrow[0] > 3 * narrow[5]
    assert narrow[-1] > 3 * narrow[5]


def test_equal_values_take_random_ranks():
    counts = rank_histogram(np.ones((9000, 2)), np.ones(9000))
    assert counts.min() > 2700


@pytest.mark.parametrize(("samples", "spread"), [(1, 0.0), (8, 0.2), (8, 3.0)])
def test_corrected_coverage_is_valid_for_new_patients_whatever_the_model(samples, spread):
    """Slices of a patient share most of their error; the share coverages is a mean over many calibrations."""
    rng = np.random.default_rng(2)
    coverages = []
    for _ in range(150):
        patients, slices = 40, 5
        common = np.repeat(rng.normal(0, 1, patients), slices)
        truth = common + 0.3 * rng.normal(0, 1, patients * slices)
        predicted = spread * rng.normal(0, 1, (patients * slices, samples))
        names = np.repeat(np.arange(patients), slices).astype(str)
        half = patients * slices // 2
        correction = conformal_correction(predicted[:half], truth[:half], list(names[:half]), 0.9)
        low, high = central_interval(predicted[half:], 0.9, correction)
        coverages.append(np.mean((low <= truth[half:]) & (truth[half:] <= high)))
    assert 0.895 <= np.mean(coverages) <= 0.95


@pytest.mark.parametrize(("patients", "most"), [(10, 1.0), (50, 0.97), (100, 0.97)])
@pytest.mark.parametrize("edge", [0.0, 0.6], ids=["exact", "whole pixels"])
def test_corrected_coverage_is_valid_for_few_patients_and_tight_for_many(patients, most, edge):
    """Two slices of each, samples that are too narrow; the share coverages is a mean over calibrations."""
    rng, coverages = np.random.default_rng(patients), []
    for _ in range(600):
        everybody = patients + 20
        known, spread = (np.repeat(rng.normal(0, scale, everybody), 2) for scale in (2, 1))
        truth = 20 + known + spread + 0.5 * rng.normal(0, 1, 2 * everybody)
        predicted = 20 + known[:, None] + 0.4 * rng.normal(0, 1, (2 * everybody, 8))
        if edge:
            truth, predicted = (edge * np.round(lengths / edge) for lengths in (truth, predicted))
        names, old = np.repeat(np.arange(everybody), 2).astype(str), slice(2 * patients)
        correction = conformal_correction(predicted[old], truth[old], list(names[old]), 0.9)
        low, high = central_interval(predicted[2 * patients :], 0.9, correction)
        new = truth[2 * patients :]
        coverages.append(np.mean((low <= new + 1e-9) & (new <= high + 1e-9)))
    assert 0.9 - 2 * np.std(coverages) / np.sqrt(len(coverages)) <= np.mean(coverages) <= most


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_the_fewest_patients_for_a_finite_correction(level):
    needed = patients_needed(level)
    samples, truth = draws(needed, 5)
    names = [str(index) for index in range(needed)]
    assert math.isfinite(conformal_correction(samples, truth, names, level))
    assert math.isinf(conformal_correction(samples[1:], truth[1:], names[1:], level))


def test_the_valid_interval_is_that_of_the_highest_level_with_a_correction():
    samples = np.array([20.0, 22.0, 21.0])
    interval = valid_interval(samples, {0.5: 0.25, 0.8: 0.5, 0.9: math.inf})
    assert interval is not None
    assert (interval.level, interval.low, interval.high) == (0.8, 19.5, 22.5)
    assert valid_interval(samples, {0.9: math.inf}) is None
    assert valid_interval(samples, {}) is None


def test_too_few_patients_give_an_infinite_correction():
    samples, truth = draws(16, 5)
    names = [str(index // 2) for index in range(16)]
    assert math.isinf(conformal_correction(samples, truth, names, 0.9))
    assert math.isfinite(conformal_correction(samples, truth, names, 0.8))


def test_a_patient_with_many_slices_weighs_as_much_as_one_with_one():
    truth = np.array([0.0, *np.arange(1.0, 20.0)])
    samples = np.zeros((len(truth), 1))
    samples[10:] = truth[10:, None]
    names = ["many"] * 10 + [str(index) for index in range(10)]
    assert conformal_correction(samples, truth, names, 0.5) == 0


def test_an_infinite_correction_is_reported_without_coverage():
    samples, truth = draws(10, 9)
    row = interval_coverage("height", samples, truth, [str(index) for index in range(10)], {0.9: math.inf})[2]
    assert row.correction == math.inf
    assert row.corrected_coverage is None
    assert row.corrected_width is None


def test_coverage_is_reported_with_and_without_correction():
    samples, truth = draws(400, 9, spread=0.3)
    names = [str(index // 4) for index in range(400)]
    correction = conformal_correction(samples, truth, names, 0.9)
    rows = interval_coverage("height", samples, truth, names, {0.9: correction})
    raw, corrected = rows[0], rows[2]
    assert raw.corrected_coverage is None
    assert raw.coverage.value < 0.4
    assert corrected.corrected_coverage is not None
    assert corrected.corrected_coverage.value == pytest.approx(0.9, abs=0.03)
    assert corrected.coverage.low < corrected.coverage.value < corrected.coverage.high
    assert corrected.corrected_width == pytest.approx(corrected.width + 2 * correction)


def test_evenly_spread_samples_are_scored_as_a_distribution():
    truth = np.random.default_rng(0).normal(size=4000)
    starts = np.random.default_rng(1).random((4000, 1))
    even = ndtri(np.clip((starts + np.arange(8) / 8) % 1, 1e-4, 1 - 1e-4))
    exact = crps_normal(np.zeros(4000), np.ones(4000), truth).mean()
    assert exact < crps(even, truth, independent=False).mean() < 1.03 * exact
    assert crps(even, truth).mean() < 0.9 * exact, "the estimator for independent samples flatters them"


def test_quantiles_have_the_crps_of_their_distribution_and_exact_intervals():
    truth = np.random.default_rng(0).normal(size=4000)
    levels = np.arange(1, QUANTILES + 1) / (QUANTILES + 1)
    quantiles = np.tile(ndtri(levels), (len(truth), 1))
    exact = crps_normal(np.zeros(4000), np.ones(4000), truth)
    assert crps(quantiles, truth, independent=False).mean() == pytest.approx(exact.mean(), rel=0.003)
    for level in LEVELS:
        low, high = central_interval(quantiles, level)
        assert (low[0], high[0]) == pytest.approx((ndtri((1 - level) / 2), ndtri((1 + level) / 2)))
