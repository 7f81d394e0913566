"""Texture synthesis: variance, spectrum and dependence on intensity are those of what is missing."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from pti.metrics.texture import fine_structure
from pti.networks.texture_synthesis import TextureSynthesis

SIZE = 128


def images(seed: int, correlated: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    """Two plateaus with texture of standard deviation 0.05 and 0.2, and the same with half of the texture."""
    rng = np.random.default_rng(seed)
    texture = ndimage.gaussian_filter(rng.normal(size=(SIZE, SIZE)), correlated)
    texture *= np.where(np.arange(SIZE) < SIZE // 2, 0.05, 0.2) / texture.std()
    plateau = np.where(np.arange(SIZE) < SIZE // 2, -0.5, 0.5)
    tissue = np.zeros((SIZE, SIZE))
    tissue[8:-8, 8:-8] = 1
    return tuple((tissue * (plateau + part * texture)).astype(np.float32) for part in (1, 0.5))


def fitted(*pairs: tuple[np.ndarray, np.ndarray]) -> TextureSynthesis:
    synthesis = TextureSynthesis()
    pairs = pairs or tuple(images(seed) for seed in range(8))
    synthesis.fit([(image, smooth, np.ones(image.shape, bool)) for image, smooth in pairs])
    return synthesis


def restored(synthesis: TextureSynthesis, image: np.ndarray, seed: int = 0) -> np.ndarray:
    batch = torch.from_numpy(image)[None, None]
    noise = torch.randn(batch.shape, generator=torch.Generator().manual_seed(seed))
    return (batch + synthesis(batch, batch != 0, noise))[0, 0].numpy()


def deviations(image: np.ndarray) -> list[float]:
    """Return the standard deviation of the fine structure on the dark and the bright plateau."""
    fine = fine_structure(image)
    halves = (slice(0, SIZE // 2 - 8), slice(SIZE // 2 + 8, SIZE))
    return [float(fine.values[:, half][fine.deep[:, half]].std()) for half in halves]


def test_the_missing_variance_is_restored_at_every_intensity():
    synthesis = fitted()
    image, smooth = images(100)
    assert deviations(smooth)[1] < 0.55 * deviations(image)[1]
    for found, true in zip(deviations(restored(synthesis, smooth)), deviations(image), strict=True):
        assert found == pytest.approx(true, rel=0.1)


@pytest.mark.parametrize("correlated", [0.5, 1.2])
def test_the_texture_has_the_spectrum_of_what_is_missing(correlated):
    synthesis = fitted(*(images(seed, correlated) for seed in range(8)))
    image, smooth = images(100, correlated)

    def neighbours(fine: np.ndarray) -> float:
        inside = fine[16:-16, SIZE // 2 + 8 : -16]
        return float(np.corrcoef(inside[:, :-1].ravel(), inside[:, 1:].ravel())[0, 1])

    added = restored(synthesis, smooth) - smooth
    expected = neighbours(fine_structure(image - smooth + (image != 0)).values)
    assert neighbours(fine_structure(added + (image != 0)).values) == pytest.approx(expected, abs=0.08)


def test_background_and_the_surface_stay_as_they_are():
    synthesis = fitted()
    _, smooth = images(100)
    added = restored(synthesis, smooth) - smooth
    assert (added[smooth == 0] == 0).all()
    rim = (smooth != 0) & np.logical_not(ndimage.binary_erosion(smooth != 0))
    assert np.abs(added[rim]).max() < 0.1 * np.abs(added).max()


def test_nothing_is_added_where_nothing_is_missing():
    pairs = [(image, image) for image, _ in map(images, range(3))]
    assert np.array_equal(restored(fitted(*pairs), pairs[0][0]), pairs[0][0])


def test_images_without_deep_tissue_give_no_texture():
    empty = np.zeros((SIZE, SIZE), np.float32)
    synthesis = fitted((empty, empty))
    assert synthesis.fitted
    smooth = images(0)[1]
    assert np.array_equal(restored(synthesis, smooth), smooth)


def test_only_the_given_region_counts():
    rng = np.random.default_rng(0)
    image, smooth = (part.copy() for part in images(0))
    image[: SIZE // 2] += (image[: SIZE // 2] != 0) * rng.normal(0, 1, (SIZE // 2, SIZE)).astype(np.float32)
    where = np.zeros(image.shape, bool)
    where[SIZE // 2 + 8 :] = True
    synthesis = TextureSynthesis()
    synthesis.fit([(image, smooth, where)])
    found = deviations(restored(synthesis, images(100)[1]))
    assert found == pytest.approx(deviations(images(100)[0]), rel=0.25)
