"""Alignment, swaps and copies on drawn bones in two contrasts, against known displacements."""

import numpy as np
import pytest
from scipy import ndimage

from pti.check.near_duplicates import Portrait, compare_details, find_copies, make_portrait
from pti.check.orientation_map import GRID, orientation_map, pack_map, reduce_image, shrink_map
from pti.check.pair_alignment import align, evidence
from pti.check.swaps import find_exchanged, find_swaps
from pti.check.thresholds import THRESHOLDS

SIZE = 256


def bone(seed: int, contrast: int = 0, tooth: bool = False) -> np.ndarray:
    """Draw a raw cross-section (SIZE, SIZE): outline and texture by seed, intensities by contrast."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    middle = 128 + generator.uniform(-8, 8, 2)
    radius = generator.uniform(0.9, 1.1, 2) * (80, 45)
    angle = np.arctan2(y - middle[0], x - middle[1])
    wave = 1 + 0.08 * sum(
        np.sin(k * angle + generator.uniform(0, 6)) * generator.uniform(0, 1) for k in (2, 3, 5)
    )
    distance = np.hypot((y - middle[0]) / radius[0], (x - middle[1]) / radius[1]) / wave
    texture = ndimage.gaussian_filter(generator.normal(size=(SIZE, SIZE)), 3)
    level = 300 + 4000 * np.abs(texture)
    level = np.where(distance > 0.85, 1500, level)
    if contrast:
        level = 2600 - level
    image = np.where(distance < 1, np.maximum(level, 50), 0)
    if tooth:
        crown = (np.abs(x - middle[1]) < 22) & (y < middle[0] - 20) & (y > middle[0] - 110)
        image = np.where(crown, 4000, image)
    return image.astype(np.float32)


def edges(pixels: np.ndarray) -> np.ndarray:
    return orientation_map(*reduce_image(pixels))


def portrait(pixels: np.ndarray) -> Portrait:
    cut = make_portrait(*reduce_image(pixels))
    assert cut is not None
    return cut


def small(pixels: np.ndarray) -> np.ndarray:
    return pack_map(shrink_map(edges(pixels)))


@pytest.mark.parametrize(("down", "right"), [(0, 0), (6, 0), (0, -6), (3, 2), (-20, 11)])
def test_shift_is_measured_across_contrasts_and_beside_a_tooth(down, right):
    for seed in range(3):
        condition = bone(seed, tooth=True)
        target = np.roll(bone(seed, contrast=1), (down, right), (0, 1))
        alignment = align(edges(condition), edges(target), SIZE / GRID)
        assert alignment is not None
        assert alignment.shift_y_px == pytest.approx(down, abs=1)
        assert alignment.shift_x_px == pytest.approx(right, abs=1)
        assert alignment.rotation_deg == pytest.approx(0, abs=1)
        assert alignment.evidence > THRESHOLDS.evidence


@pytest.mark.parametrize("degrees", [3.0, -3.0, 8.0])
def test_rotation_is_measured_clockwise_positive(degrees):
    condition = bone(1)
    target = ndimage.rotate(bone(1, contrast=1), -degrees, reshape=False, order=0)
    alignment = align(edges(condition), edges(target), SIZE / GRID)
    assert alignment is not None
    assert alignment.rotation_deg == pytest.approx(degrees, abs=0.7)


def test_noise_is_no_rotation_although_turning_it_averages_it():
    for seed in range(3):
        noise = np.random.default_rng(seed).normal(0, 500, (2, SIZE, SIZE))
        images = [np.where(bone(seed) != 0, bone(seed) + one, 0).astype(np.float32) for one in noise]
        alignment = align(edges(images[0]), edges(images[1]), SIZE / GRID)
        assert alignment is not None
        assert abs(alignment.rotation_deg) < 1.5
        assert alignment.shift_px < 2


def test_evidence_needs_many_blocks_that_agree():
    assert evidence(np.ones(16)) == pytest.approx(4)
    assert evidence(np.array([1000.0, *np.ones(15)])) < 1.1
    assert evidence(np.array([1.0, -1.0] * 8)) == pytest.approx(0)
    assert evidence(np.zeros(16)) == 0


def test_an_image_without_structure_has_no_alignment():
    assert align(edges(bone(0)), edges(np.zeros((SIZE, SIZE), np.float32))) is None


@pytest.mark.parametrize("shape", [(256, 256), (200, 300), (64, 64), (131, 97)])
def test_reduced_image_keeps_position_and_area(shape):
    pixels = np.zeros(shape, np.float32)
    pixels[shape[0] // 4 : shape[0] // 2, shape[1] // 4 : shape[1] // 2] = 5
    _, covered = reduce_image(pixels)
    cells_of_a_pixel = (GRID / max(shape)) ** 2
    assert covered.sum() == pytest.approx(np.count_nonzero(pixels) * cells_of_a_pixel, rel=1e-4)
    centre = ndimage.center_of_mass(covered)
    offset = [(max(shape) - length) // 2 for length in shape]
    for axis in (0, 1):
        expected = (offset[axis] + (shape[axis] // 4 + shape[axis] // 2) / 2) * GRID / max(shape) - 0.5
        assert centre[axis] == pytest.approx(expected, abs=0.1)


def test_swapped_targets_and_chains_are_found_and_nothing_else():
    conditions = np.stack([small(bone(seed, tooth=True)) for seed in range(12)])
    targets = np.stack([small(bone(seed, contrast=1)) for seed in range(12)])
    assert find_swaps(conditions, targets) == []
    order = [1, 0, 2, 3, 5, 6, 4, 7, 8, 9, 10, 11]
    swaps = find_swaps(conditions, targets[order])
    assert sorted(sorted(swap.pairs) for swap in swaps) == [[0, 1], [4, 5, 6]]
    assert all(swap.certain and swap.closed for swap in swaps)
    for swap in swaps:
        for index, following in zip(swap.pairs, swap.pairs[1:] + swap.pairs[:1], strict=True):
            assert order[following] == index


def test_a_foreign_target_that_fits_nowhere_is_left_to_other_checks():
    maps = np.stack([small(bone(seed)) for seed in range(6)])
    replaced = maps.copy()
    replaced[2] = small(bone(99))
    assert not [swap for swap in find_swaps(maps, replaced) if swap.certain]


def test_exchanged_pairs_are_found_by_the_difference_learnt_from_the_set():
    generator = np.random.default_rng(0)
    differences = np.array([3.0, -1.0, 0.0]) + generator.normal(0, 0.4, (60, 3))
    patients = [str(index // 4) for index in range(60)]
    assert find_exchanged(differences, patients) == []
    differences[[7, 30]] *= -1
    assert find_exchanged(differences, patients) == [7, 30]


def test_exchange_cannot_be_decided_if_the_folders_look_alike():
    differences = np.random.default_rng(0).normal(0, 1, (60, 3))
    assert find_exchanged(differences, [str(index // 4) for index in range(60)]) is None


def modify(pixels: np.ndarray, how: str) -> np.ndarray:
    generator = np.random.default_rng(5)
    noise = generator.normal(0, 40, pixels.shape)
    if how == "scaled":
        return pixels * 1.3
    if how == "noisy":
        return np.where(pixels != 0, pixels + noise, 0).astype(np.float32)
    if how == "shifted":
        return np.roll(pixels, (9, -5), (0, 1))
    enlarged = np.asarray(ndimage.zoom(pixels, 1.05, order=1))
    start = (len(enlarged) - SIZE) // 2
    return enlarged[start : start + SIZE, start : start + SIZE]


@pytest.mark.parametrize("how", ["scaled", "noisy", "shifted", "resized"])
def test_copies_under_another_patients_name_are_found(how):
    images = [bone(seed) for seed in range(8)]
    portraits = [portrait(image) for image in [*images, modify(images[3], how)]]
    copies = find_copies(portraits, [str(index) for index in range(9)])
    assert [(copy.first, copy.second) for copy in copies] == [(3, 8)]


def test_different_patients_are_not_copies_and_slices_of_one_patient_are_not_compared():
    portraits = [portrait(bone(seed)) for seed in range(8)]
    assert find_copies(portraits, [str(index) for index in range(8)]) == []
    assert find_copies([portraits[0], portraits[0], portraits[1]], ["a", "a", "b"]) == []
    assert compare_details(portraits[0], portraits[0]) == pytest.approx(1, abs=1e-3)
    assert find_copies([], []) == []


def test_an_image_with_hardly_any_tissue_has_no_portrait():
    pixels = np.zeros((SIZE, SIZE), np.float32)
    pixels[100:106, 100:106] = 500
    assert make_portrait(*reduce_image(pixels)) is None
