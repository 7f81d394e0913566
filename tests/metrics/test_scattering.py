"""Scattering features of textures."""

import numpy as np
from scipy import ndimage

from pti.metrics.scattering import PATCH, SPACING, patch_centres, patch_features


def noise(sigma: float, seed: int = 0) -> np.ndarray:
    """Noise of standard deviation 100 around 1000, blurred."""
    drawn = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((96, 96)), sigma, mode="wrap")
    return (1000 + 100 * drawn / drawn.std()).astype(np.float32)


def features(image: np.ndarray) -> np.ndarray:
    return patch_features(image, patch_centres(np.ones(image.shape, bool)), 2000)


def test_centres_lie_in_the_region_on_a_grid():
    region = np.zeros((64, 48), bool)
    region[16:40, 8:32] = True
    centres = patch_centres(region)
    assert len(centres) == (24 // SPACING) ** 2
    assert all(region[row, column] for row, column in centres)


def test_two_draws_of_a_texture_are_closer_than_two_textures():
    fine, again, coarse, contrast = (
        features(image).mean(axis=0)
        for image in (noise(0.7), noise(0.7, 1), noise(1.4), 2 * noise(0.7) - 1000)
    )
    same = np.linalg.norm(fine - again)
    assert all(np.linalg.norm(fine - other) > 5 * same for other in (coarse, contrast))


def test_the_direction_of_stripes_matters_and_brightness_only_once():
    rows, columns = np.mgrid[:64, :64]
    across, down = (1000 + 200 * np.sin(axis) for axis in (rows, columns))
    assert np.abs(features(across) - features(down)).max() > 1
    brighter = features(across + 500) - features(across)
    middle = len(brighter) // 2 + 4  # a patch inside the image
    assert np.argmax(np.abs(brighter[middle])) == 0
    assert np.abs(brighter[middle, 1:]).max() < 0.05


def test_an_empty_image_has_finite_features():
    values = features(np.zeros((PATCH, PATCH), np.float32))
    assert np.isfinite(values).all()
