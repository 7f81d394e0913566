"""The ridge regression that a network corrects: one map of all patients, and one without each fold."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pti.networks.size_inputs import SizeInputs
from pti.networks.size_ridge import SizeRidge, fit_ridge, patient_folds

GRID = 4
INPUTS = SizeInputs(GRID)


def linear_patients(count: int, noise: float = 0.3) -> tuple[Tensor, np.ndarray, list[str]]:
    """Images (N, 1, 32, 32) of 4 x 4 cells, two standardised sizes that depend on them, and patients."""
    rng = np.random.default_rng(0)
    cells = rng.normal(size=(count, GRID, GRID))
    sizes = np.stack([cells[:, 0].sum(1) / 2, cells[:, 3, 3]], 1) + noise * rng.normal(size=(count, 2))
    images = torch.from_numpy(np.kron(cells, np.ones((8, 8)))).float()[:, None]
    return images, sizes, [f"patient {index}" for index in range(count)]


def moments_of(images: Tensor) -> np.ndarray:
    return torch.stack([INPUTS(INPUTS.copies(image[None])) for image in images]).numpy()


def test_folds_hold_whole_patients_and_are_of_similar_size():
    patients = [f"patient {index // 3}" for index in range(60)]
    folds = patient_folds(patients)
    assert all(len(set(folds[start : start + 3])) == 1 for start in range(0, 60, 3))
    assert np.bincount(folds).tolist() == [12] * 5
    assert set(patient_folds(["a", "a", "b"])) == {0, 1}


def test_left_out_maps_do_not_know_the_images_that_they_leave_out():
    images, sizes, patients = linear_patients(50)
    inputs, folds = moments_of(images), patient_folds(patients)
    spread = INPUTS.spread(inputs)
    before = fit_ridge(inputs, sizes, folds, spread, [1.0])
    changed = sizes + 100 * (folds == 2)[:, None]
    after = fit_ridge(inputs, changed, folds, spread, [1.0])
    np.testing.assert_allclose(after.left_out[2].bias, before.left_out[2].bias)
    assert not np.allclose(after.left_out[1].bias, before.left_out[1].bias)
    np.testing.assert_allclose(after.errors[folds == 2] + 100, before.errors[folds == 2])


def test_noise_without_any_relation_gets_the_largest_penalty_and_a_clear_relation_a_small_one():
    images, sizes, patients = linear_patients(100, noise=0.01)
    inputs, folds = moments_of(images), patient_folds(patients)
    spread = INPUTS.spread(inputs)
    random = np.random.default_rng(1).normal(size=(100, 1))
    assert (
        fit_ridge(inputs, random, folds, spread).penalty
        > 100 * fit_ridge(inputs, sizes, folds, spread).penalty
    )


def test_predictions_of_new_images_err_by_the_stated_error():
    images, sizes, patients = linear_patients(400)
    ridge = SizeRidge(2, INPUTS)
    folds = ridge.fit(moments_of(images[:300]), sizes[:300], patients[:300])
    assert set(folds) == {1, 2, 3, 4, 5}
    errors = ridge(images[300:]) - torch.from_numpy(sizes[300:])
    assert errors.square().mean(0).sqrt().tolist() == pytest.approx(ridge.error.tolist(), rel=0.25)
    assert ridge.error.tolist() == pytest.approx([0.35, 0.35], abs=0.1)


def test_a_training_image_is_predicted_by_the_map_without_its_patient():
    images, sizes, patients = linear_patients(60)
    ridge = SizeRidge(2, INPUTS)
    folds = torch.from_numpy(ridge.fit(moments_of(images), sizes, patients))
    left_out = ridge(images, folds) - torch.from_numpy(sizes)
    torch.testing.assert_close(left_out.square().mean(0).sqrt().float(), ridge.error, rtol=1e-3, atol=0)
    known = ridge(images) - torch.from_numpy(sizes)
    assert known.square().mean() < 0.9 * left_out.square().mean()
    torch.testing.assert_close(ridge(images, torch.zeros_like(folds)), ridge(images))


def test_a_measure_is_fitted_on_the_bones_that_have_it_and_an_absent_one_stays_at_the_mean():
    images, sizes, patients = linear_patients(200)
    some = np.concatenate([sizes, np.full((200, 1), np.nan)], 1)
    some[::2, 1] = np.nan
    ridge, half = SizeRidge(3, INPUTS), SizeRidge(1, INPUTS)
    ridge.fit(moments_of(images), some, patients)
    assert ridge(images)[:, 2].abs().max() == 0
    assert ridge.error[2] == 1
    assert ridge.error[1] < 0.7
    assert ridge(images).isfinite().all()
    assert half.fit(moments_of(images[:4]), sizes[:4, :1], ["a"] * 4).tolist() == [0] * 4
    assert half(images).abs().max() == 0


def test_predictions_of_images_unlike_all_others_are_limited():
    images, sizes, patients = linear_patients(60)
    ridge = SizeRidge(2, INPUTS)
    ridge.fit(moments_of(images), sizes, patients)
    assert ridge(1000 * images).abs().max() <= 4


def test_a_checkpoint_holds_the_map_of_all_patients_alone():
    assert set(SizeRidge(2, INPUTS).state_dict()) == {"weights", "bias", "error"}
