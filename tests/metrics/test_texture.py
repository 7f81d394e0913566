"""Power and correlation of the texture after known changes of the image."""

import tracemalloc

import numpy as np
import pytest
from scipy import ndimage

from pti.metrics.texture import TEXTURE, Texture

EDGE = 0.15


@pytest.fixture
def image() -> tuple[np.ndarray, np.ndarray]:
    """A disk of bone, 15 mm wide, with fine grains; and its mask."""
    rows, columns = np.mgrid[:160, :160] - 80
    mask = rows**2 + columns**2 < 50**2
    grains = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(mask.shape), 1.0)
    return ((1000 + 400 * grains) * mask).astype(np.float32), mask


def test_the_same_image_is_exact(image):
    raw, mask = image
    assert Texture(raw, mask, EDGE).compare(raw) == pytest.approx(dict.fromkeys(TEXTURE, 1.0), abs=1e-6)


def test_power_follows_contrast_and_ignores_brightness(image):
    raw, mask = image
    metrics = Texture(raw, mask, EDGE).compare((1000 + 0.5 * (raw - 1000) + 300) * mask)
    assert metrics["texture_power_ratio"] == pytest.approx(0.25, rel=1e-3)
    assert metrics["texture_correlation"] == pytest.approx(1, abs=1e-3)


def test_other_grains_have_the_power_but_no_correlation(image):
    raw, mask = image
    metrics = Texture(raw, mask, EDGE).compare(raw[::-1])
    assert metrics["texture_power_ratio"] == pytest.approx(1, rel=0.05)
    assert abs(metrics["texture_correlation"]) < 0.1


def test_blur_loses_power_and_noise_adds_power(image):
    raw, mask = image
    texture = Texture(raw, mask, EDGE)
    blurred = texture.compare(ndimage.gaussian_filter(raw, 2) * mask)
    assert blurred["texture_power_ratio"] < 0.4
    noise = np.random.default_rng(1).standard_normal(raw.shape) * raw[mask].std()
    noisy = texture.compare((raw + noise) * mask)
    assert noisy["texture_power_ratio"] == pytest.approx(2, rel=0.1)
    assert noisy["texture_correlation"] == pytest.approx(0.5**0.5, rel=0.05)


def test_only_the_core_counts(image):
    raw, mask = image
    shell = mask & (ndimage.distance_transform_edt(mask) < 5)  # pyright: ignore[reportOperatorIssue]
    changed = raw + 500 * shell * np.random.default_rng(2).standard_normal(raw.shape)
    assert Texture(raw, mask, EDGE).compare(changed)["texture_correlation"] > 0.99


def test_an_empty_prediction_has_no_texture(image):
    raw, mask = image
    metrics = Texture(raw, mask, EDGE).compare(np.zeros_like(raw))
    assert metrics == {"texture_power_ratio": 0, "texture_correlation": 0}


@pytest.mark.parametrize("radius", [0, 5])
def test_metrics_are_nan_without_a_core(image, radius):
    raw, _ = image
    rows, columns = np.mgrid[:160, :160] - 80
    mask = rows**2 + columns**2 < radius**2
    assert all(np.isnan(value) for value in Texture(raw, mask, EDGE).compare(raw).values())


def test_tiny_pixels_need_no_more_memory_than_the_image(image):
    raw, mask = image
    tracemalloc.start()
    metrics = Texture(raw, mask, 1e-6).compare(raw)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert set(metrics) == set(TEXTURE)
    assert np.isnan(list(metrics.values())).all()  # the bone has no core
    assert peak < 100 * raw.nbytes


def test_an_empty_mask_has_no_texture(image):
    raw, mask = image
    assert np.isnan(list(Texture(raw, mask & False, EDGE).compare(raw).values())).all()
