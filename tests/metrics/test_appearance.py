"""Features of raw images change with what they describe, and with nothing else."""

import numpy as np
import pytest

from pti.data.phantom.pairs import draw_pairs
from pti.metrics.appearance import (
    GRID,
    change_features,
    disagreement,
    edge_features,
    intensity_features,
    layout_features,
)

SIZE = 64


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return next(draw_pairs(0, 1, 1, SIZE, 0.15)).dente.astype(np.float64)


def test_intensities_follow_the_unit_and_ignore_the_place(image):
    assert intensity_features(2 * image) == pytest.approx(2 * intensity_features(image))
    assert intensity_features(image[::-1]) == pytest.approx(intensity_features(image))
    assert not intensity_features(np.zeros((8, 8))).any()


def test_the_layout_is_the_share_of_tissue_in_each_part(image):
    shares = layout_features(image).reshape(GRID, GRID)
    assert shares.mean() == pytest.approx((image != 0).mean())
    assert layout_features(image[::-1]).reshape(GRID, GRID) == pytest.approx(shares[::-1])
    assert layout_features(5 * image) == pytest.approx(shares.ravel())


def test_edges_ignore_the_unit_and_show_orientation_and_sharpness(image):
    edges = edge_features(image)
    assert edge_features(7 * image) == pytest.approx(edges)
    assert edges[:8].sum() == pytest.approx(1)
    half_turned = edge_features(image[::-1, ::-1])
    assert np.roll(half_turned[:8], 4) == pytest.approx(edges[:8], abs=0.02)
    noisy = np.where(image != 0, image + np.random.default_rng(0).normal(0, 300, image.shape), 0)
    assert (edge_features(noisy)[8:] > edges[8:]).all()


@pytest.mark.parametrize("image", [np.zeros((16, 16)), np.full((16, 16), 3.0), np.eye(16)], ids=str)
def test_images_without_edges_have_finite_features(image):
    assert np.isfinite(edge_features(image)).all()


def test_a_change_is_seen_in_its_part_and_relative_to_the_condition(image):
    assert not change_features(image, image).any()
    answer = image.copy()
    answer[: SIZE // GRID] = 0
    changes = change_features(image, answer).reshape(2, GRID, GRID)
    assert changes[0, 0] == pytest.approx(-layout_features(image)[:GRID])
    assert not changes[:, 1:].any()


def test_disagreement_does_not_depend_on_the_number_of_samples(image):
    samples = np.where(image != 0, image + np.random.default_rng(0).normal(0, 50, (40, *image.shape)), 0)
    for count in (2, 4, 40):
        assert disagreement(image, samples[:count]) == pytest.approx(50, rel=0.06)
    assert disagreement(image, np.stack([image, image])) == 0
    assert disagreement(0 * image, np.zeros((2, SIZE, SIZE))) == 0
