"""Alignment: known deformations are found, units don't matter, and an image unlike the rest stays finite."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from torch import Tensor

from pti.data.phantom import make_phantom
from pti.networks.alignment import EDGE, STAGES, Alignment, bending_energy, refinement, spline_basis
from pti.networks.size_inputs import SizeInputs
from pti.networks.size_ridge import SizeRidge


def jaws(count: int, seed: int = 0, size: int = EDGE) -> tuple[Tensor, Tensor]:
    """Rounded bright shapes with a dark core (N, 1, size, size), background 0, and their (N, 4) parameters.

    The parameters are the place of the centre across and down and the half-axes, relative to the edge.
    """
    drawn = torch.Generator().manual_seed(seed)
    parameters = torch.tensor([0.5, 0.5, 0.18, 0.3]) + 0.05 * (torch.rand(count, 4, generator=drawn) - 0.5)
    place = (torch.arange(size) + 0.5) / size
    x, y, a, b = (column[:, None, None] for column in parameters.T)
    distance = (((place - x) / a) ** 2 + ((place[:, None] - y) / b) ** 2).sqrt()
    rim = ((1 - distance) * size * a / 2 + 0.5).clamp(0, 1)
    core = ((0.5 - distance) * size * a / 2 + 0.5).clamp(0, 1)
    return (rim * (1 - 0.6 * core))[:, None], parameters


def fitted(images: Tensor) -> Alignment:
    alignment = Alignment()
    alignment.fit(images, 0.0)
    return alignment


@pytest.fixture(scope="module")
def alignment() -> Alignment:
    """Fitted on 24 jaws."""
    return fitted(jaws(24)[0])


def test_new_images_are_aligned_to_each_other(alignment: Alignment):
    images = jaws(12, seed=1)[0]
    aligned = alignment(images)[1]
    equalized = alignment.equalize(images)
    assert aligned.shape == equalized.shape
    assert aligned.var(0).mean() < 0.03 * equalized.var(0).mean()


def test_the_displacement_tells_place_and_size(alignment: Alignment):
    images, parameters = jaws(60)
    new, truth = jaws(20, seed=1)
    before, after = (torch.cat([alignment(part)[0], torch.ones(len(part), 1)], 1) for part in (images, new))
    weights = torch.linalg.lstsq(
        before.mT @ before + 1e-3 * torch.eye(before.shape[1]), before.mT @ parameters
    )
    errors = after @ weights.solution - truth
    assert (errors.std(0) < 0.07 * truth.std(0)).all()


def test_moving_an_image_moves_the_displacement_and_nothing_else(alignment: Alignment):
    images = jaws(4)[0]
    moved = torch.roll(images, (6, -4), (2, 3))
    (before, still), (after, again) = alignment(images), alignment(moved)
    assert (again - still).abs().mean() < 0.05 * (
        alignment.equalize(moved) - alignment.equalize(images)
    ).abs().mean()
    middle = (slice(None), slice(None), slice(6, -6), slice(6, -6))
    shift = (after - before).view(4, 2, *[STAGES[-1].control_points] * 2)[middle].mean((2, 3))
    torch.testing.assert_close(
        shift, torch.tensor([[-4.0, 6.0]]).expand(4, 2) / (EDGE / 2), atol=0.005, rtol=0
    )


@pytest.mark.parametrize("size", [32, 96, 256])
def test_images_of_any_size_are_aligned(size: int):
    images = jaws(8, size=size)[0]
    alignment = fitted(images)
    displacements, aligned = alignment(images)
    assert displacements.shape == (8, alignment.displacements)
    assert aligned.shape == (8, 1, EDGE, EDGE)
    assert aligned.var(0).mean() < 0.1 * alignment.equalize(images).var(0).mean()


def test_unit_and_contrast_of_the_scanner_do_not_matter():
    images = jaws(8)[0]
    other = torch.where(images > 0, 5 * images.sqrt() - 7, -9.0)
    alignment = Alignment()
    alignment.fit(other, -9.0)
    torch.testing.assert_close(alignment(other)[0], fitted(images)(images)[0], atol=0.01, rtol=0)


def test_equalised_tissue_is_evenly_spread_and_background_is_0():
    texture = torch.rand(4, 1, EDGE, EDGE, generator=torch.Generator().manual_seed(0))
    images = (jaws(4)[0] > 0) * (0.1 + texture) ** 3
    equalized = fitted(images).equalize(images)
    assert torch.equal(equalized == 0, images == 0)
    ranks = equalized[images > 0].sort().values
    assert ranks[0] >= 0.5
    assert ranks[-1] <= 1.5
    assert ranks[len(ranks) // 2] == pytest.approx(1.0, abs=0.03)


def test_an_image_does_not_depend_on_its_batch(alignment: Alignment):
    images = jaws(12)[0]
    for alone, together in zip(alignment(images[:1]), alignment(images), strict=True):
        torch.testing.assert_close(alone, together[:1], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("value", [0.0, 1.0, 1e6])
def test_an_image_unlike_all_others_stays_finite(alignment: Alignment, value: float):
    displacements, aligned = alignment(torch.full((1, 1, EDGE, EDGE), value))
    assert aligned.isfinite().all()
    assert displacements.abs().max() < 5


@pytest.mark.parametrize("images", [torch.zeros(3, 1, 64, 64), torch.ones(3, 1, 64, 64), jaws(1)[0]])
def test_images_without_tissue_without_contrast_or_of_one_patient_can_be_fitted(images: Tensor):
    displacements, aligned = fitted(images)(images)
    assert displacements.isfinite().all()
    assert aligned.isfinite().all()


def test_weights_are_enough_to_align_again(alignment: Alignment):
    images, loaded = jaws(3)[0], Alignment()
    loaded.load_state_dict(alignment.state_dict())
    assert torch.equal(loaded(images)[0], alignment(images)[0])


def test_splines_reproduce_lines_and_are_refined_without_loss():
    for points, size in ((5, 16), (19, 128)):
        basis = spline_basis(points, size)
        torch.testing.assert_close(basis.sum(1), torch.ones(size))
        line = basis @ torch.arange(points).float()
        torch.testing.assert_close(
            line.diff(), torch.full((size - 1,), (points - 3) / size), atol=1e-4, rtol=0
        )
    coarse = torch.randn(5, generator=torch.Generator().manual_seed(0))
    finer = refinement(5, 9) @ coarse  # twice as many intervals: the same spline
    torch.testing.assert_close(spline_basis(9, 64) @ finer, spline_basis(5, 64) @ coarse, atol=1e-4, rtol=0)


def test_planes_are_not_bent():
    points = torch.arange(7.0)
    plane = (2 * points[:, None] - 3 * points + 1).flatten()
    assert float(plane @ bending_energy(7) @ plane) == pytest.approx(0, abs=1e-3)
    assert float(points.square().repeat(7) @ bending_energy(7) @ points.square().repeat(7)) == pytest.approx(
        140
    )


def test_heights_of_healed_bones_are_predicted_better_than_by_cells(tmp_path: Path):
    make_phantom(tmp_path / "phantom", patients=60, slices=1, image_size=64, seed=1)
    pairs = sorted((tmp_path / "phantom" / "dente").glob("*.tif"))
    images = torch.from_numpy(np.stack([tifffile.imread(path) for path in pairs]))[:, None]
    targets = np.stack([tifffile.imread(tmp_path / "phantom" / "edente" / path.name) for path in pairs])
    heights = (targets > 0).any(2).sum(1)
    heights = (heights - heights.mean()) / heights.std()
    errors = []
    for inputs in (SizeInputs(16), SizeInputs(32, Alignment())):
        inputs.fit(images, 0.0)
        ridge = SizeRidge(1, inputs)
        vectors = torch.stack([inputs(inputs.copies(image[None])) for image in images]).numpy()
        ridge.fit(vectors, heights[:, None], [path.name for path in pairs])
        errors.append(float(ridge.error))
    assert errors[1] < 0.9 * errors[0]
