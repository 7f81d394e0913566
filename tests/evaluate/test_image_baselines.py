"""Baselines that map intensities of the condition to intensities of the target."""

from pathlib import Path

import numpy as np
import pytest

from pti.data import tif
from pti.evaluate.image_baselines import (
    MAX_PAIRS,
    fit_lookup,
    lookup_of_others,
    lookup_of_training,
    tissue_pixels,
)


def write_pairs(folder: Path, targets: list[np.ndarray], condition: np.ndarray) -> list[tuple[Path, Path]]:
    """The same condition with each of the targets."""
    pairs = []
    for number, target in enumerate(targets):
        files = folder / f"{number}_dente.tif", folder / f"{number}_edente.tif"
        for file, image in zip(files, (condition, target), strict=True):
            tif.write(file, image)
        pairs.append(files)
    return pairs


def ramp() -> np.ndarray:
    """(20, 20) raw image: 100 intensities, four pixels each, in a frame of background."""
    raw = np.zeros((20, 20), np.float32)
    raw[5:15] = np.repeat(np.arange(100), 2).reshape(10, 20) + 1
    return raw


def test_any_function_of_few_intensities_is_recovered_exactly():
    condition = np.repeat(np.arange(1, 201), 3).astype(np.float32)
    function = np.random.default_rng(0).normal(0, 1000, 201)
    table = fit_lookup(condition, function[condition.astype(int)])
    np.testing.assert_allclose(table(condition), function[condition.astype(int)], rtol=1e-6)
    between = table(np.array([[7.5]], np.float32))[0, 0]
    assert between == pytest.approx((function[7] + function[8]) / 2, rel=1e-6)


def test_the_table_is_the_mean_target_given_the_intensity():
    rng = np.random.default_rng(1)
    condition = rng.gamma(4, 200, 400_000).astype(np.float32)
    target = 3 * np.sqrt(condition) + rng.normal(0, 5, condition.size)
    table = fit_lookup(condition, target)
    assert len(table.levels) == 256
    assert np.all(np.diff(table.levels) > 0)
    asked = np.quantile(condition, np.linspace(0.01, 0.99, 50)).astype(np.float32)
    np.testing.assert_allclose(table(asked), 3 * np.sqrt(asked), atol=1)


def test_equal_intensities_share_a_bin():
    condition = np.array([5.0] * 990 + [7.0] * 10)
    target = np.arange(1000.0)
    table = fit_lookup(condition, target)
    assert table.levels.tolist() == [5, 7]
    assert table.values.tolist() == [target[:990].mean(), target[990:].mean()]


def test_background_stays_exactly_0_and_ends_are_constant():
    table = fit_lookup(np.array([10.0, 20.0]), np.array([1.0, 3.0]))
    assert table(np.array([[0, 5, 15, 99]], np.float32)).tolist() == [[0, 1, 2, 3]]
    empty = fit_lookup(np.empty(0), np.empty(0))
    assert empty(np.ones((2, 2), np.float32)).tolist() == [[0, 0], [0, 0]]


def test_pixels_come_from_the_conditions_tissue_and_stay_together():
    condition = ramp()
    pixels = tissue_pixels(condition, 2 * condition, count=50)
    assert pixels.shape == (2, 50)
    assert pixels[0].min() > 0
    assert np.ptp(pixels[0]) > 90
    np.testing.assert_array_equal(pixels[1], 2 * pixels[0])
    assert tissue_pixels(condition, condition[1:]).shape == (2, 0)


def test_training_pairs_make_one_table(tmp_path):
    condition = ramp()
    pairs = write_pairs(tmp_path, [2 * condition, 4 * condition], condition)
    made = lookup_of_training(pairs)(condition, "anybody")
    np.testing.assert_allclose(made, 3 * condition, rtol=1e-6)
    assert made.dtype == np.float32


def test_of_many_pairs_evenly_spaced_ones_are_read(tmp_path):
    condition = ramp()
    good, missing = write_pairs(tmp_path, [2 * condition], condition)[0], (Path("none"), Path("none"))
    pairs = [good, missing] * MAX_PAIRS  # every second one is read
    np.testing.assert_allclose(lookup_of_training(pairs)(condition, ""), 2 * condition, rtol=1e-6)


def test_a_patient_is_predicted_from_the_others(tmp_path):
    condition = ramp()
    pairs = write_pairs(tmp_path, [9 * condition, 2 * condition, 4 * condition, 4 * condition], condition)
    make = lookup_of_others(pairs, ["a", "b", "c", "c"])
    np.testing.assert_allclose(make(condition, "a"), (2 + 4 + 4) / 3 * condition, rtol=1e-6)
    np.testing.assert_allclose(make(condition, "c"), (9 + 2) / 2 * condition, rtol=1e-6)
