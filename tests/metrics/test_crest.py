"""Roughness of crests whose shape is known."""

import math

import numpy as np
import pytest

from pti.data.phantom.pairs import draw_pairs
from pti.metrics.crest import FINE_MM, FORM_MM, crest_roughness
from pti.metrics.morphometry import bone_mask

FINE_PIXEL = 0.05  # mm


def crest(top: np.ndarray, rows: int = 300) -> np.ndarray:
    """Draw a bone whose upper outline is at ``top`` (W,), pixels from the top of the image."""
    centres = np.arange(rows)[:, None] + 0.5
    return np.pad((centres > top) & (centres < rows - 20), 20)


def straight(slope: float, width: int = 600) -> np.ndarray:
    return 30 + slope * np.arange(width, dtype=float)


def dome(rough_px: int = 0, radius: float = 60, seed: int = 0) -> np.ndarray:
    """Draw half a disc on a block, with columns moved up or down by up to ``rough_px`` pixels."""
    across = np.arange(-55, 56)
    top = 80 - np.sqrt(radius**2 - across**2)
    return crest(top + np.random.default_rng(seed).integers(-rough_px, rough_px + 1, len(top)), 200)


@pytest.mark.parametrize(("slope", "most_px"), [(0, 1e-4), (0.04, 0.15), (-0.08, 0.05)])
def test_a_straight_crest_is_smooth(slope, most_px):
    """The steps of an inclined line deviate from it by 1/√12 = 0.29 pixels: long ones are not removed."""
    top = straight(slope) + (60 if slope < 0 else 0)
    assert crest_roughness(crest(top), FINE_PIXEL) < most_px * FINE_PIXEL


@pytest.mark.parametrize("period_mm", [1.0, 1.5, 2.5])
@pytest.mark.parametrize("slope", [0, 0.06])
def test_a_wave_counts_by_its_amplitude_and_the_two_filters(period_mm, slope):
    amplitude_mm = 0.15
    position = np.arange(600) * FINE_PIXEL
    wave = amplitude_mm * np.sin(2 * np.pi * position / period_mm) / FINE_PIXEL
    fine, form = (math.exp(-2 * (math.pi * length / period_mm) ** 2) for length in (FINE_MM, FORM_MM))
    expected = amplitude_mm / math.sqrt(2) * (fine - form)
    assert crest_roughness(crest(straight(slope) + wave), FINE_PIXEL) == pytest.approx(expected, rel=0.1)


def test_raggedness_adds_up():
    values = [
        np.mean([crest_roughness(dome(px, seed=seed), 0.15) for seed in range(3)]) for px in (0, 1, 2, 3)
    ]
    assert values[1] > 1.5 * values[0]
    assert values[0] < values[1] < values[2] < values[3]


@pytest.mark.parametrize("rough_px", [0, 2])
def test_the_image_may_be_mirrored_moved_and_padded(rough_px):
    mask = dome(rough_px)
    expected = crest_roughness(mask, 0.15)
    for changed in (mask[:, ::-1], np.pad(mask, ((3, 40), (17, 0))), mask[15:, 10:-20]):
        assert crest_roughness(changed, 0.15) == pytest.approx(expected, rel=1e-5)


def test_a_crest_is_as_rough_in_pixels_of_any_size():
    mask = dome(3)
    expected = crest_roughness(mask, 0.15)
    assert crest_roughness(mask.repeat(2, axis=0).repeat(2, axis=1), 0.075) == pytest.approx(
        expected, rel=0.05
    )
    assert crest_roughness(mask, 0.6) == pytest.approx(2 * crest_roughness(mask, 0.3))  # lengths are pixels


def test_holes_and_other_parts_do_not_count():
    mask = dome(1)
    expected = crest_roughness(mask, 0.15)
    holed, beside = mask.copy(), mask.copy()
    holed[60:64, 60:90] = False
    beside[:8, :8] = True
    assert mask[59:65, 59:91].all()
    assert crest_roughness(holed, 0.15) == pytest.approx(expected)
    assert crest_roughness(beside, 0.15) == pytest.approx(expected)


def test_an_overhang_is_not_roughness():
    """A mushroom is as smooth as the disc of its head, although columns meet its outline three times."""
    rows, columns = np.mgrid[:220, :220]
    head = np.hypot(rows - 80, columns - 110) < 40
    mushroom = head | ((abs(columns - 110) < 15) & (rows > 80) & (rows < 200))
    assert crest_roughness(mushroom, 0.15) == pytest.approx(crest_roughness(head, 0.15), rel=0.02)


@pytest.mark.parametrize("pixel_mm", [0.05, 0.15, 0.3, 1.0])
def test_no_bone_and_too_little_bone_have_no_crest(pixel_mm):
    mask = np.zeros((64, 64), bool)
    assert math.isnan(crest_roughness(mask, pixel_mm))
    mask[30, 30] = True
    assert math.isnan(crest_roughness(mask, pixel_mm))
    mask[10:60, 30:32] = True
    assert math.isnan(crest_roughness(mask, pixel_mm))
    mask = np.zeros((64, 64), bool)
    mask[30:32, 5:60] = True
    assert math.isnan(crest_roughness(mask, pixel_mm))
    assert crest_roughness(np.ones((64, 64), bool), pixel_mm) >= 0


def test_phantoms_of_each_size_are_smooth():
    for size in (128, 256, 512):
        pairs = [next(draw_pairs(3, patient, 1, size, 0.15)) for patient in range(4)]
        values = [crest_roughness(bone_mask(pair.edente), pair.truth["pixel_mm"]) for pair in pairs]
        assert np.median(values) < 0.15 * pairs[0].truth["pixel_mm"] + 0.01
