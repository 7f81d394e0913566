"""The vector that a dente image is reduced to, with and without an alignment."""

import numpy as np
import pytest
import torch

from pti.networks.alignment import Alignment
from pti.networks.size_inputs import SizeInputs, shifted_copies


def test_copies_of_an_image_are_shifted_by_half_a_cell_of_the_default_grid():
    raw = torch.zeros(1, 1, 64, 64)
    raw[0, 0, 30, 40] = 1
    copies = shifted_copies(raw)
    assert torch.equal(copies[:1], raw)
    places = {tuple(copy[0].nonzero()[0].tolist()) for copy in copies}
    assert places == {(30 + down, 40 + across) for down in (-2, 0, 2) for across in (-2, 0, 2)}
    raw = torch.ones(1, 1, 64, 64)
    assert [int((copy == 0).sum()) for copy in shifted_copies(raw)[:3]] == [0, 128, 128]


def test_without_alignment_the_inputs_are_mean_and_mean_square_of_each_cell():
    image = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    inputs = SizeInputs(4)
    cells = image.reshape(2, 4, 8, 4, 8).permute(0, 1, 3, 2, 4).reshape(2, 16, 64)
    torch.testing.assert_close(inputs(image), torch.cat([cells.mean(-1), cells.square().mean(-1)], 1))
    assert inputs(image).shape[1] == inputs.width


def test_with_alignment_they_are_displacements_and_cells_of_the_aligned_image():
    images = torch.zeros(3, 1, 64, 64)
    for index, right in enumerate((30, 34, 38)):
        images[index, :, 16:48, 20:right] = 1 + index / 10
    inputs = SizeInputs(8, Alignment())
    inputs.fit(images, 0.0)
    vectors = inputs(images)
    displacements, aligned = inputs.alignment(images) if inputs.alignment else (vectors, vectors)
    assert vectors.shape == (3, inputs.width)
    torch.testing.assert_close(vectors[:, : displacements.shape[1]], displacements)
    torch.testing.assert_close(vectors[:, displacements.shape[1]], aligned[:, 0, :16, :16].mean((1, 2)))
    raw = images[:1]
    assert torch.equal(inputs.copies(raw), raw)


def test_units_of_cells_do_not_matter_and_the_smallest_spreads_are_limited():
    vectors = np.random.default_rng(0).normal(size=(50, 1, 8)) * np.array([1, 2, 3, 4, 5, 6, 1e-9, 0])
    spread = SizeInputs(2).spread(vectors)
    np.testing.assert_allclose(spread[:6], vectors.std((0, 1))[:6])
    assert spread[6:] == pytest.approx(0.05 * spread.max())
    assert (SizeInputs(2).spread(np.zeros((5, 1, 8))) == 1).all()


def test_displacements_keep_their_proportions():
    inputs = SizeInputs(4, Alignment())
    vectors = np.random.default_rng(0).normal(size=(50, 1, inputs.width))
    vectors[..., 0] *= 100
    spread = inputs.spread(vectors)
    assert len(set(spread[: inputs.width - 16])) == 1
    assert len(set(spread[inputs.width - 16 :])) == 16
    assert (inputs.spread(np.zeros((5, 1, inputs.width))) > 0).all()
