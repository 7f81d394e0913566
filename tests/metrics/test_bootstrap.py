import math

import numpy as np
import pytest

from pti.metrics.bootstrap import bootstrap_mean


def test_mean_counts_slices_and_patients():
    found = bootstrap_mean(np.array([1.0, 2.0, np.nan, 6.0]), ["a", "a", "b", "c"])
    assert (found.value, found.count, found.patients) == (3.0, 3, 2)
    assert found.low <= 3 <= found.high


def test_equal_values_leave_no_doubt():
    found = bootstrap_mean(np.full(6, 2.5), list("aabbcc"))
    assert (found.value, found.low, found.high) == (2.5, 2.5, 2.5)


def test_one_patient_gives_no_interval():
    found = bootstrap_mean(np.array([1.0, 2.0]), ["a", "a"])
    assert found.value == 1.5
    assert math.isnan(found.low)


def test_infinite_values_make_the_mean_infinite():
    found = bootstrap_mean(np.array([np.inf, 1.0]), ["a", "b"])
    assert math.isinf(found.value)
    assert math.isnan(found.high)


def test_nothing_gives_nan():
    found = bootstrap_mean(np.array([np.nan]), ["a"])
    assert math.isnan(found.value)
    assert found.count == 0


@pytest.mark.parametrize("patients", [8, 30])
def test_interval_covers_although_slices_of_a_patient_are_alike(patients):
    """95 % intervals of 300 sets; treating slices as independent would cover about half."""
    rng = np.random.default_rng(0)
    names, held = [str(index // 10) for index in range(10 * patients)], []
    for _ in range(300):
        values = np.repeat(rng.normal(0, 1, patients), 10) + 0.1 * rng.normal(0, 1, 10 * patients)
        found = bootstrap_mean(values, names, resamples=1000)
        held.append(found.low <= 0 <= found.high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.04)
