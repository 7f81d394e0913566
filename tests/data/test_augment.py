"""Augmentation: one draw per pair, keyed by (seed, epoch, name); background 0; nothing if disabled."""

import numpy as np
import pytest

from pti.data.augment import Augmentation, _move_crest

ALL = {"horizontal_flip": 0.5, "vertical_flip": 0.5, "quarter_turn": 0.5, "affine": 0.7, "elastic": 0.7}


def _pair(size: int = 48) -> np.ndarray:
    """Return two images with the same tissue; the second is twice the first."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    tissue = np.hypot(x * 1.5, y) < 0.6
    image = (tissue * (2 + np.sin(8 * x) + y)).astype(np.float32)
    return np.stack([image, 2 * image])


def test_depends_on_seed_epoch_and_name_alone() -> None:
    augmentation, pair = Augmentation(**ALL), _pair()
    keys = [(0, 0, "a"), (0, 1, "a"), (1, 0, "a"), (0, 0, "b")]
    first = {key: augmentation(pair, *key) for key in keys}
    again = {key: Augmentation(**ALL)(pair, *key) for key in reversed(keys)}
    assert all(np.array_equal(first[key], again[key]) for key in keys)
    assert len({image.tobytes() for image in first.values()}) > 1


@pytest.mark.parametrize("change", list(ALL))
def test_each_change_applies_to_both_images(change: str) -> None:
    augmentation, pair = Augmentation(**{change: 1.0}), _pair()
    before = pair.copy()
    for name in "abcd":
        changed = augmentation(pair, 0, 0, name)
        assert changed.shape == pair.shape
        assert changed.dtype == np.float32
        assert not np.array_equal(changed, pair)
        np.testing.assert_allclose(changed[1], 2 * changed[0], rtol=1e-5)
        assert np.array_equal(changed[0] == 0, changed[1] == 0)
        darkest, darkest_before = (image[image != 0].min() for image in (changed[0], pair[0]))
        assert darkest > 0.9 * darkest_before  # tissue does not mix with background
    assert np.array_equal(pair, before)


def test_flips_and_turns_only_move_pixels() -> None:
    pair = _pair()
    for change in ("horizontal_flip", "vertical_flip", "quarter_turn"):
        changed = Augmentation(**{change: 1.0})(pair, 0, 0, "a")
        assert np.array_equal(np.sort(changed.ravel()), np.sort(pair.ravel()))


def test_disabled_changes_are_the_identity() -> None:
    pair = _pair()
    assert np.array_equal(Augmentation()(pair, 3, 4, "x"), pair)


def test_probabilities() -> None:
    augmentation, pair = Augmentation(horizontal_flip=0.5), _pair(8)
    pair[:, 3, 1] = 7
    flips = sum(not np.array_equal(augmentation(pair, 0, 0, str(name)), pair) for name in range(400))
    assert 150 < flips < 250
    with pytest.raises(ValueError, match=r"affine=1\.5"):
        Augmentation(affine=1.5)


def test_warps_are_small() -> None:
    pair = _pair(64)
    augmentation = Augmentation(affine=1.0, elastic=1.0)
    for name in "abcdefgh":
        changed = augmentation(pair, 0, 0, name)
        before, after = pair[0] != 0, changed[0] != 0
        dice = 2 * (before & after).sum() / (before.sum() + after.sum())
        assert 0.75 < dice < 1.0


@pytest.mark.parametrize("sign", [1, -1])
def test_intensity_changes_keep_the_tissue_in_place(sign: int) -> None:
    pair = _pair()
    pair[:, 20:28, 20:28] *= 1e-3 * sign  # dark or negative marrow
    before = pair.copy()
    augmentation = Augmentation(intensity=1.0, noise=0.1)
    for name in "abcdefgh":
        changed = augmentation(pair, 0, 0, name)
        assert changed.dtype == np.float32
        assert np.array_equal(changed != 0, pair != 0)
        assert not np.array_equal(changed, pair)
        assert sign < 0 or changed.min() == 0
    assert np.array_equal(pair, before)


def test_intensity_changes_are_those_of_one_scanner() -> None:
    """Gain, contrast and blur are equal for both images, the noise's values are not."""
    image = _pair()[0]
    twins = np.stack([image, image])
    same = Augmentation(intensity=1.0, noise=0.0)(twins, 0, 0, "a")
    assert np.array_equal(same[0], same[1])
    noisy = Augmentation(intensity=1.0)(twins, 0, 0, "a")
    difference = (noisy[0] - noisy[1])[image != 0]
    assert 0 < difference.std() < 2**0.5 * 0.03 * np.median(image[image != 0]) * 1.2


@pytest.mark.parametrize("key", ["gain", "gamma", "blur", "noise"])
def test_each_intensity_change_is_bounded(key: str) -> None:
    none = dict.fromkeys(["gain", "gamma", "blur", "noise"], 0.0)
    image = _pair(64)[:1]
    tissue = image != 0
    identity = Augmentation(intensity=1.0, **none)(image, 0, 0, "a")
    np.testing.assert_allclose(identity, image, rtol=1e-6)
    augmentation = Augmentation(intensity=1.0, **none | {key: 0.1})
    ratios = [(augmentation(image, 0, 0, name)[tissue] / image[tissue]) for name in "abcdefgh"]
    assert all(not np.allclose(ratio, 1, atol=1e-4) for ratio in ratios)
    if key == "gain":
        assert all(np.ptp(ratio) < 1e-5 for ratio in ratios)
        assert np.exp(-0.1) < np.min(ratios) < 1 < np.max(ratios) < np.exp(0.1)
    if key == "gamma":
        darkest, brightest = image[tissue].argmin(), image[tissue].argmax()
        assert {bool(ratio[darkest] < 1) for ratio in ratios} == {True, False}
        assert all((ratio[darkest] < 1) == (ratio[brightest] > 1) for ratio in ratios)


def test_intensity_changes_leave_the_geometric_ones_as_they_were() -> None:
    pair = _pair()
    for name in "abcdef":
        plain = Augmentation(**ALL)(pair, 0, 0, name)
        both = Augmentation(**ALL, intensity=1.0)(pair, 0, 0, name)
        assert np.array_equal(plain != 0, both != 0)


def _healed(size: int = 64) -> np.ndarray:
    """Return a bone with a bright tooth in its upper half, and the bone with a lower ridge without it."""
    row, column = np.mgrid[:size, :size]
    bone = ((abs(column - 32) < 12) & (row >= 16) & (row < 56)).astype(np.float32)
    tooth = (abs(column - 32) < 4) & (row >= 6) & (row < 32)
    dente = np.where(tooth, 3, bone * (1 + row / 100)).astype(np.float32)
    edente = (bone * (row >= 20) * (1 + row / 100)).astype(np.float32)
    return np.stack([dente, edente])


def _crest(image: np.ndarray) -> int:
    return int(np.flatnonzero(image.any(1))[0])


@pytest.mark.parametrize("shift", [-0.05, -0.02, 0.02, 0.05])
def test_a_moved_crest_moves_the_changed_part_alone(shift: float) -> None:
    dente, edente = _healed()
    moved = _move_crest(dente, edente, shift)
    assert _crest(moved) - _crest(edente) == pytest.approx(64 * shift, abs=1)
    assert np.array_equal(moved[40:], edente[40:])
    assert np.array_equal(moved[:, 44:], edente[:, 44:])
    values = moved[moved != 0]
    assert edente[edente != 0].min() - 1e-6 <= values.min() <= values.max() <= edente.max()
    middle = moved[_crest(moved) : 40, 32]
    assert (np.diff(middle) >= 0).all(), "rows keep their order"


def test_other_ridges_change_the_edente_image_of_pairs_alone() -> None:
    augmentation, pair = Augmentation(ridge=1.0), _healed()
    crests = set()
    for name in "abcdefgh":
        changed = augmentation(pair, 0, 0, name)
        assert np.array_equal(changed[0], pair[0])
        crests.add(_crest(changed[1]))
        assert np.array_equal(augmentation(pair[1:], 0, 0, name), pair[1:])
    assert len(crests) > 2
    assert max(abs(crest - 20) for crest in crests) <= 4


def test_other_ridges_do_not_alter_the_other_changes() -> None:
    pair = _healed()
    for name in "abc":
        own, other = (Augmentation(**ALL, ridge=ridge)(pair, 0, 0, name) for ridge in (0.0, 1.0))
        assert np.array_equal(own[0], other[0])


@pytest.mark.parametrize("empty", [0, 1])
def test_pairs_without_bone_keep_their_ridge(empty: int) -> None:
    pair = _healed()
    pair[1 if empty else slice(None)] = 0
    assert np.array_equal(Augmentation(ridge=1.0)(pair, 0, 0, "a"), pair)
