"""Resizing: geometry of the round trip, background exactly 0, position of the rim."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from pti.data.resize import pad_and_resize, pixel_mm_after, restore_size


def _ellipse(height: int, width: int, value: float = 500.0) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return ((x**2 + y**2 < 0.5) * (value + 100 * x)).astype(np.float32)


def test_identity_at_the_right_size() -> None:
    image = _ellipse(64, 64)
    assert pad_and_resize(image, 64) is image
    assert restore_size(image, (64, 64)) is image


@pytest.mark.parametrize("shape", [(128, 96), (96, 128), (61, 64), (31, 17), (200, 200)])
def test_background_stays_0_and_the_rim_is_at_least_half_tissue(shape: tuple[int, int]) -> None:
    image = _ellipse(*shape)
    resized = pad_and_resize(image, 64)
    assert resized.shape == (64, 64)
    assert resized.dtype == np.float32
    tissue = resized[resized != 0]
    assert tissue.min() >= 0.5 * image[image != 0].min() - 1e-3
    assert tissue.max() <= image.max() + 1e-3
    area = (image != 0).sum() / max(shape) ** 2
    assert (resized != 0).sum() / 64**2 == pytest.approx(area, abs=0.01)


@pytest.mark.parametrize("shape", [(128, 96), (97, 128), (40, 64)])
def test_round_trip_restores_frame_and_position(shape: tuple[int, int]) -> None:
    image = _ellipse(*shape)
    back = restore_size(pad_and_resize(image, 64), shape)
    assert back.shape == shape
    before, after = image != 0, back != 0
    assert 2 * (before & after).sum() / (before.sum() + after.sum()) > 0.95
    for axis in (0, 1):
        centres = [np.average(np.indices(shape)[axis], weights=mask) for mask in (before, after)]
        assert abs(centres[0] - centres[1]) < 0.6


@pytest.mark.parametrize("size", [96, 128, 160])
def test_an_edge_moves_by_a_fraction_of_a_pixel(size: int) -> None:
    errors = []
    for height in range(90, 130):
        image = np.zeros((256, 256), np.float32)
        image[60 : 60 + height, 100:150] = 1000.0
        back = restore_size(pad_and_resize(image, size), image.shape)
        errors.append(np.flatnonzero((back > 500).any(1)).size - height)
    assert abs(np.mean(errors)) < 0.5
    assert np.abs(errors).max() <= 2


def test_enlarging_is_sharper_than_linear_interpolation_and_adds_no_halo() -> None:
    y, x = np.mgrid[0:128, 0:128]
    image = (300 + 100 * np.sin(x / 4) * np.cos(y / 5)).astype(np.float32)
    image[:20] = 0
    small = pad_and_resize(image, 64)
    back = restore_size(small, image.shape)
    inner = (slice(30, -10), slice(10, -10))
    places = (np.arange(128) + 0.5) / 2 - 0.5
    linear = map_coordinates(small, np.meshgrid(places, places, indexing="ij"), order=1, mode="nearest")
    cubic_error, linear_error = (np.abs(result - image)[inner].mean() for result in (back, linear))
    assert cubic_error < 0.7 * linear_error
    assert back.max() <= small.max()
    assert back[back != 0].min() >= 0
    assert (back[:19] == 0).all()


def test_shrinking_does_not_alias() -> None:
    stripes = np.tile(np.array([100.0, 300.0], np.float32), (128, 64))
    assert np.abs(pad_and_resize(stripes, 32)[4:-4, 4:-4] - 200).max() < 5


def test_negative_tissue_and_tissue_that_averages_to_0_stay_tissue() -> None:
    image = np.tile(np.array([-1.0, 1.0], np.float32), (64, 32))
    assert (pad_and_resize(image, 32) != 0).all()


def test_pixel_size_after_resizing() -> None:
    assert pixel_mm_after((128, 96), 64, 0.15) == pytest.approx(0.3)


@pytest.mark.parametrize("size", [24, 40, 64])
def test_a_stack_is_restored_like_its_images(size: int) -> None:
    stack = np.random.default_rng(0).normal(500, 100, (2, 3, size, size)).astype(np.float32)
    stack[..., :5] = 0
    restored = restore_size(stack, (40, 32))
    assert restored.shape == (2, 3, 40, 32)
    for place in np.ndindex(2, 3):
        np.testing.assert_array_equal(restored[place], restore_size(stack[place], (40, 32)))
