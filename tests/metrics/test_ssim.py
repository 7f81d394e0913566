import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

from pti.metrics.image import image_metrics, mae, ms_ssim, psnr, ssim
from pti.metrics.ssim import MS_SSIM_WEIGHTS

RANGE = 4000.0


def pair(size: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Prediction and target (2, 1, size, size): textured tissue in an empty background."""
    rng = np.random.default_rng(seed)
    target = np.zeros((2, 1, size, size), np.float32)
    inside = (..., slice(size // 8, size - size // 5), slice(size // 4, size - size // 4))
    target[inside] = gaussian_filter(rng.uniform(500, 4000, target.shape), (0, 0, 2, 2))[inside]
    predicted = target.copy()
    predicted[inside] += rng.normal(0, 300, target.shape).astype(np.float32)[inside]
    return torch.from_numpy(predicted), torch.from_numpy(target)


def reference(a: np.ndarray, b: np.ndarray, scales: int) -> float:
    """Wang et al. 2003 with SciPy's Gaussian filter and scikit-image's SSIM at the last scale."""
    weights = np.array(MS_SSIM_WEIGHTS[:scales]) / sum(MS_SSIM_WEIGHTS[:scales])
    product = 1.0

    def blur(image: np.ndarray) -> np.ndarray:
        return gaussian_filter(image, 1.5, truncate=3.5)[5:-5, 5:-5]

    for scale in range(scales):
        if scale == scales - 1:
            value = structural_similarity(
                a, b, data_range=1, gaussian_weights=True, use_sample_covariance=False
            )
        else:
            covariance = blur(a * b) - blur(a) * blur(b)
            variances = blur(a * a) - blur(a) ** 2 + blur(b * b) - blur(b) ** 2
            value = np.mean((2 * covariance + 0.03**2) / (variances + 0.03**2))
        product *= value ** weights[scale]
        if scale < scales - 1:
            a, b = (image.reshape(len(image) // 2, 2, -1, 2).mean((1, 3)) for image in (a, b))
    return float(product)


@pytest.mark.parametrize(("size", "scales"), [(176, 5), (128, 4), (64, 3)])
def test_agrees_with_the_definition(size, scales):
    predicted, target = pair(size)
    scores = ms_ssim(predicted, target, RANGE)
    for index in range(2):
        a, b = (images[index, 0].double().numpy() / RANGE for images in (predicted, target))
        assert scores[index].item() == pytest.approx(reference(a, b, scales), abs=1e-9)


def test_image_metrics_equal_the_single_metrics():
    predicted, target = pair(96)
    bone = target > 0
    metrics = image_metrics(predicted, target, RANGE, bone)
    for prefix, mask in (("", None), ("bone_", bone)):
        torch.testing.assert_close(
            metrics[f"{prefix}mae"].float(), mae(predicted, target, mask), rtol=1e-5, atol=0
        )
        torch.testing.assert_close(metrics[f"{prefix}psnr"], psnr(predicted, target, RANGE, mask))
        torch.testing.assert_close(metrics[f"{prefix}ssim"], ssim(predicted, target, RANGE, mask))
        torch.testing.assert_close(metrics[f"{prefix}ms_ssim"], ms_ssim(predicted, target, RANGE, mask))
    assert set(image_metrics(predicted, target, RANGE)) == {"mae", "psnr", "ssim", "ms_ssim"}


def test_equal_images_score_1_whatever_their_place_and_empty_ones_too():
    _, target = pair(64)
    edge = torch.zeros_like(target)
    edge[..., :3, -3:] = 1000
    for images in (target, edge, torch.zeros_like(target)):
        torch.testing.assert_close(ms_ssim(images, images, RANGE), torch.ones(2, dtype=torch.float64))


def test_background_within_the_window_of_the_tissue_counts():
    """Tissue at the border of the image, and the same image embedded in a larger empty one."""
    predicted, target = pair(64)
    score = ssim(predicted[..., 8:, :], target[..., 8:, :], RANGE)[0].item()
    a, b = (images[0, 0, 8:].double().numpy() for images in (target, predicted))
    expected = structural_similarity(
        a, b, data_range=RANGE, gaussian_weights=True, use_sample_covariance=False
    )
    assert score == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("size", [(176, 191), (189, 177), (186, 186), (97, 64)])
@pytest.mark.parametrize("place", ["corner", "last rows", "middle", "nowhere"])
def test_skipping_the_background_does_not_change_the_result(size, place):
    """Compare with a mask of the whole image."""
    height = size[0]
    inside = {
        "corner": (slice(0, 7), slice(0, 9)),
        "last rows": (slice(height - 10, height), slice(30, 50)),
        "middle": (slice(40, 77), slice(21, 60)),
        "nowhere": (slice(0, 0), slice(0, 0)),
    }[place]
    rng = np.random.default_rng(0)
    predicted, target = (np.zeros((2, 1, *size)) for _ in range(2))
    for images in (predicted, target):
        images[(..., *inside)] = rng.uniform(500, 4000, images[(..., *inside)].shape)
    predicted, target = (torch.from_numpy(images.astype(np.float32)) for images in (predicted, target))
    metrics = image_metrics(predicted, target, RANGE, torch.ones_like(target, dtype=torch.bool))
    alone = image_metrics(predicted, target, RANGE)
    for name, values in alone.items():
        torch.testing.assert_close(values, metrics[f"bone_{name}"], rtol=1e-12, atol=1e-12)
    assert (alone["ms_ssim"] == 1).all() == (place == "nowhere")
