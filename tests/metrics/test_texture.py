"""Fine structure: what counts as texture, and its agreement with the truth."""

import numpy as np
import pytest
from scipy import ndimage

from pti.metrics.texture import BLUR, fine_structure, texture_agreement

SIZE = 96


@pytest.fixture
def bone() -> np.ndarray:
    """A disk with coarse structure and grain, background 0."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    coarse = 500 + 100 * np.cos(rows / 20)
    return np.where(np.hypot(rows, columns) < 35, coarse + generator.normal(0, 20, coarse.shape), 0)


def test_fine_structure_is_the_grain_and_not_the_surface(bone):
    values, deep = fine_structure(bone)
    assert 0.8 * 20 < values[deep].std() < 20  # the blur keeps a part of the grain
    assert abs(values[deep].mean()) < 1
    assert not values[~deep].any()
    surface = np.asarray(ndimage.binary_dilation(bone == 0, iterations=2))
    assert not (deep & surface).any()


def test_an_image_agrees_with_itself(bone):
    assert texture_agreement(bone, bone) == pytest.approx((1, 1))


def test_blur_lowers_the_amplitude_and_contrast_scales_it(bone):
    tissue = bone != 0
    blurred = np.where(tissue, ndimage.gaussian_filter(bone, 1.0), 0)
    amplitude, correlation = texture_agreement(bone, blurred)
    assert amplitude < 0.5
    assert 0.2 < correlation < 0.9
    assert texture_agreement(bone, 3 * bone) == pytest.approx((3, 1))


def test_other_grain_of_the_same_kind_has_the_amplitude_only(bone):
    other = np.where(bone != 0, 500 + np.random.default_rng(1).normal(0, 20, bone.shape), 0)
    amplitude, correlation = texture_agreement(bone, other)
    assert amplitude == pytest.approx(1, abs=0.1)
    assert abs(correlation) < 0.1


def test_without_texture_or_tissue(bone):
    flat = np.where(bone != 0, 500.0, 0)
    assert texture_agreement(bone, flat) == pytest.approx((0, 0), abs=0.02)
    assert texture_agreement(bone, np.zeros_like(bone)) == (0, 0)
    assert np.isnan(texture_agreement(np.zeros_like(bone), bone)).all()
    assert 0 < BLUR < 0.1
