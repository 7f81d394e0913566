import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pti.metrics.image import mae, psnr, reconstruction_metrics, ssim


@pytest.fixture
def images():
    """Target and prediction (3, 1, 48, 40) with values up to 4000, as raw images have."""
    rng = np.random.default_rng(0)
    target = rng.uniform(0, 4000, (3, 1, 48, 40)).astype(np.float32)
    target[1] = np.linspace(0, 4000, 40, dtype=np.float32)
    predicted = target + rng.normal(0, 200, target.shape).astype(np.float32)
    return torch.from_numpy(predicted), torch.from_numpy(target)


def test_psnr_and_ssim_agree_with_scikit_image(images):
    predicted, target = images
    psnrs, ssims = psnr(predicted, target, 4000), ssim(predicted, target, 4000)
    for i in range(len(target)):
        a, b = (images[i, 0].double().numpy() for images in (target, predicted))
        assert psnrs[i].item() == pytest.approx(peak_signal_noise_ratio(a, b, data_range=4000), rel=1e-9)
        expected = structural_similarity(
            a, b, data_range=4000, gaussian_weights=True, use_sample_covariance=False
        )
        assert ssims[i].item() == pytest.approx(expected, abs=1e-9)


def test_ssim_is_precise_where_contrast_is_small():
    rng = np.random.default_rng(1)
    target = 10_000 + rng.normal(0, 1, (1, 1, 32, 32)).astype(np.float32)
    predicted = target + rng.normal(0, 1, target.shape).astype(np.float32)
    score = ssim(torch.from_numpy(predicted), torch.from_numpy(target), 10).item()
    a, b = target[0, 0].astype(np.float64), predicted[0, 0].astype(np.float64)
    expected = structural_similarity(a, b, data_range=10, gaussian_weights=True, use_sample_covariance=False)
    assert score == pytest.approx(expected, abs=1e-6)


def test_equal_images_are_perfect(images):
    _, target = images
    assert torch.equal(mae(target, target), torch.zeros(3))
    assert torch.isinf(psnr(target, target, 4000)).all()
    torch.testing.assert_close(ssim(target, target, 4000), torch.ones(3, dtype=torch.float64))


def test_mae_is_in_the_unit_of_the_images(images):
    _, target = images
    torch.testing.assert_close(mae(target + 5, target), torch.full((3,), 5.0), rtol=1e-4, atol=0)


def test_an_image_scores_the_same_in_any_batch(images):
    predicted, target = images
    for metric in (mae, lambda a, b: psnr(a, b, 4000), lambda a, b: ssim(a, b, 4000)):
        torch.testing.assert_close(metric(predicted, target)[1:2], metric(predicted[1:2], target[1:2]))


def test_mask_restricts_the_average(images):
    predicted, target = images
    mask = torch.zeros(target.shape, dtype=torch.bool)
    mask[..., 10:30, 10:30] = True
    spoiled = torch.where(mask, predicted, 0)
    torch.testing.assert_close(mae(spoiled, target, mask), mae(predicted, target, mask))
    torch.testing.assert_close(psnr(spoiled, target, 4000, mask), psnr(predicted, target, 4000, mask))
    part = (..., slice(10, 30), slice(10, 30))
    torch.testing.assert_close(mae(predicted, target, mask), mae(predicted[part], target[part]))
    whole = torch.ones_like(mask)
    torch.testing.assert_close(ssim(predicted, target, 4000, whole), ssim(predicted, target, 4000))
    assert not torch.allclose(ssim(predicted, target, 4000, mask), ssim(predicted, target, 4000))


def test_empty_mask_gives_nan(images):
    predicted, target = images
    mask = torch.zeros(target.shape, dtype=torch.bool)
    mask[1:] = True
    for values in (mae(predicted, target, mask), psnr(predicted, target, 4000, mask)):
        assert torch.isnan(values).tolist() == [True, False, False]
    assert torch.isnan(ssim(predicted, target, 4000, mask)).tolist() == [True, False, False]


@pytest.mark.parametrize("data_range", [0, -1, math.inf, math.nan])
def test_data_range_must_be_positive(images, data_range):
    for metric in (psnr, ssim):
        with pytest.raises(ValueError, match="data_range"):
            metric(images[0], images[1], data_range)


def test_shapes_are_checked(images):
    predicted, target = images
    with pytest.raises(ValueError, match="shape"):
        mae(predicted[:, 0], target[:, 0])
    with pytest.raises(ValueError, match="target has shape"):
        psnr(predicted, target[:1], 4000)
    with pytest.raises(ValueError, match="11 × 11"):
        ssim(predicted[..., :8], target[..., :8], 4000)


def test_reconstruction_metrics():
    raw = np.zeros((64, 64), np.float32)
    raw[10:50, 20:40] = 1000
    same = reconstruction_metrics(raw, raw, pixel_mm=0.15, data_range=1000)
    assert same == {
        "mae": 0,
        "psnr": math.inf,
        "ssim": pytest.approx(1),
        "bone_dice": 1,
        "bone_height_error_mm": 0,
    }
    lower = raw.copy()
    lower[10:14] = 0
    metrics = reconstruction_metrics(raw, lower, pixel_mm=0.15, data_range=1000)
    assert metrics["bone_height_error_mm"] == pytest.approx(0.6)
    assert metrics["bone_dice"] == pytest.approx(2 * 36 / (40 + 36))
    assert metrics["mae"] == pytest.approx(1000 * 80 / 64**2)
    nothing = reconstruction_metrics(raw, np.zeros_like(raw), pixel_mm=0.15, data_range=1000)
    assert nothing["bone_dice"] == 0
    assert math.isnan(nothing["bone_height_error_mm"])
