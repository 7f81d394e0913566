"""Band of the outline: distances, the new outline, the fitted factor, and coverage where it is known."""

import numpy as np
import pytest

from pti.metrics.calibration import patients_needed
from pti.metrics.outline_band import (
    MeasuredOutline,
    at_outline,
    band_coverage,
    band_factor,
    band_settings,
    image_band,
    measure_outline,
    outline_distribution,
    signed_distance,
)

PIXEL_MM = 0.5
SIZE = 48


def disc(radius: float) -> np.ndarray:
    """Draw a raw image of a disc, radius in pixels; empty below 0."""
    rows, columns = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    return np.where(np.hypot(rows, columns) <= radius, 1000.0, 0.0).astype(np.float32)


def bar(height: int) -> np.ndarray:
    """Draw a raw image of a bar from row 40 upwards."""
    raw = np.zeros((SIZE, SIZE), np.float32)
    raw[40 - height : 40, 10:30] = 1000
    return raw


def measured(factors: list[float]) -> MeasuredOutline:
    return MeasuredOutline(np.array(factors), 1.0)


def test_distances_are_positive_outside_and_zero_between_the_pixels_of_the_outline():
    mask = np.zeros((5, 6), bool)
    mask[2:, :] = True  # it reaches the frame, which is not an outline
    distance = signed_distance(mask, PIXEL_MM)
    assert distance[:, 3].tolist() == [0.75, 0.25, -0.25, -0.75, -1.25]
    assert at_outline(distance, mask).tolist() == [0] * 6
    assert signed_distance(mask & False, 2.0)[0, 0] == pytest.approx(2 * np.hypot(5, 6))
    assert signed_distance(mask | True, 2.0)[0, 0] == pytest.approx(-2 * np.hypot(5, 6))


@pytest.mark.parametrize("samples", [1, 3])
def test_samples_that_equal_the_truth_need_no_band_and_others_their_distance(samples):
    same = measure_outline(bar(30), [bar(20)] * samples, bar(20), PIXEL_MM)
    assert same.factors.max() == 0
    assert same.spread == pytest.approx(0.5 * PIXEL_MM)
    higher = measure_outline(bar(30), [bar(23)] * samples, bar(20), PIXEL_MM)
    assert np.median(higher.factors) == pytest.approx(3 / 0.5)


def test_only_the_new_outline_counts():
    new = measure_outline(bar(30), [bar(20)], bar(20), PIXEL_MM).factors
    assert new.size == pytest.approx(20, abs=2)  # the crest, without the flanks and the base
    assert measure_outline(bar(20), [bar(30)], bar(20), PIXEL_MM).factors.size == 0


def test_a_sample_without_bone_allows_any_outline_and_only_such_samples_none():
    some = measure_outline(bar(30), [bar(20), bar(22), bar(0)], bar(25), PIXEL_MM)
    assert some.factors.max() < 1
    none = measure_outline(bar(30), [bar(0)] * 3, bar(25), PIXEL_MM)
    assert none.factors.min() > 100
    assert np.isnan(none.spread)
    assert measure_outline(bar(30), [bar(20)], bar(0), PIXEL_MM).factors.size == 0


def test_the_factor_is_the_smallest_that_controls_the_risk():
    """The inequality of Angelopoulos et al. 2022, with slices averaged within each patient first."""
    rng = np.random.default_rng(0)
    patients = [str(patient) for patient in rng.integers(0, 30, 80)]
    outlines = [measured(list(rng.exponential(1, rng.integers(1, 20)))) for _ in patients]
    count = len(set(patients))

    def bound(factor: float) -> float:
        risks = [
            np.mean(
                [
                    np.mean(outline.factors > factor)
                    for outline, owner in zip(outlines, patients, strict=True)
                    if owner == patient
                ]
            )
            for patient in set(patients)
        ]
        return count / (count + 1) * float(np.mean(risks)) + 1 / (count + 1)

    for level in (0.5, 0.8, 0.9):
        factor = band_factor(outlines, patients, level)
        assert bound(factor) <= 1 - level + 1e-9 < bound(factor - 1e-9)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_the_fewest_patients_for_a_band(level):
    needed = patients_needed(level)
    names, outlines = [str(index) for index in range(needed)], [measured([1.0, 2.0])] * needed
    assert band_factor(outlines, names, level) == 2
    assert np.isinf(band_factor(outlines[1:], names[1:], level))
    assert np.isinf(band_factor([*outlines[1:], measured([])], names, level))


@pytest.fixture(scope="module", params=[1.0, 0.3, 0.0], ids=["calibrated", "overconfident", "identical"])
def discs(request) -> list[MeasuredOutline]:
    """Discs whose radius has a standard deviation of 3 pixels, predicted by 8 samples of a smaller one."""
    rng, outlines = np.random.default_rng(1), []
    for centre in rng.normal(12, 1.5, 240):
        radii = centre + request.param * rng.normal(0, 3, 8)
        true = disc(max(2.0, centre + rng.normal(0, 3)))
        outlines.append(measure_outline(disc(23), [disc(max(2.0, r)) for r in radii], true, PIXEL_MM))
    return outlines


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_the_band_covers_its_fraction_of_new_discs_whatever_the_samples(discs, level):
    rng, coverages = np.random.default_rng(2), []
    for _ in range(60):
        order = rng.permutation(len(discs))
        known, new = ([discs[index] for index in part] for part in (order[:80], order[80:]))
        factor = band_factor(known, [str(index) for index in range(80)], level)
        coverages.append(np.mean([np.mean(outline.factors <= factor) for outline in new]))
    assert level - 0.02 <= np.mean(coverages) <= level + 0.05


def test_coverage_and_width_of_each_level():
    outlines = [measured([0.5, 1.5]), measured([3.0, 3.0]), measured([])]
    half, most = band_coverage(outlines, ["a", "b", "c"], {0.5: 2.0, 0.9: np.inf})
    assert half.coverage is not None
    assert half.width is not None
    assert (half.coverage.value, half.coverage.count, half.width.value) == (0.5, 2, 4.0)
    assert (most.coverage, most.width) == (None, None)


def test_the_band_of_an_image_is_that_of_the_highest_level_with_a_factor():
    samples = [bar(height) for height in (18, 20, 22)]
    band = image_band(bar(30), samples, PIXEL_MM, {0.5: 0.5, 0.8: 2.0, 0.9: np.inf})
    assert band is not None
    spread = np.std([-2, 0, 2]) * PIXEL_MM
    assert band.as_metrics() == pytest.approx(
        {"band_level": 0.8, "band_factor": 2.0, "band_width_mm": 4 * spread}, rel=0.05
    )
    inside = band.outline.excess(2.0) <= 0
    assert np.count_nonzero(inside[:, 20]) * PIXEL_MM == pytest.approx(4 * spread + PIXEL_MM, abs=PIXEL_MM)
    assert band_settings({0.5: 0.5, 0.8: 2.0, 0.9: np.inf}) == {"band_level": 0.8, "band_factor": 2.0}
    assert image_band(bar(30), samples, PIXEL_MM, {0.9: np.inf}) is None
    assert band_settings({}) == {}
    unknown = image_band(bar(20), [bar(20)], PIXEL_MM, {0.9: 2.0})
    assert unknown is not None
    assert "band_width_mm" not in unknown.as_metrics()


def test_the_band_is_widest_where_samples_differ():
    spread = outline_distribution([bar(18), bar(22)], PIXEL_MM).spread
    assert spread[20, 20] == pytest.approx(2 * PIXEL_MM)
    assert spread[35, 10] == pytest.approx(0.5 * PIXEL_MM)
