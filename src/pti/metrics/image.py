"""How close two images are: MAE, PSNR and SSIM, each with one definition and a data range fixed beforehand.

A data range taken from each image would let a darker image score differently for the same error; so it is an
argument, one number for a whole data set (the width of the interval in which its tissue lies).
"""

import math

import numpy as np
import torch
from torch import Tensor

from pti.metrics.morphometry import bone_mask, dice, measure

SSIM_SIGMA, SSIM_RADIUS = 1.5, 5
SSIM_K1, SSIM_K2 = 0.01, 0.03


def mae(predicted: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute error of each image, in the images' unit.

    Args:
        predicted: (B, 1, H, W).
        target: (B, 1, H, W).
        mask: (B, 1, H, W) bool: the pixels that count; None for all.

    Returns:
        (B,); NaN where a mask is empty.
    """
    _check(predicted, target, mask)
    return _mean((predicted - target).abs(), mask)


def psnr(predicted: Tensor, target: Tensor, data_range: float, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio 10·log10(data_range² / mean squared error) of each image, dB.

    Args:
        predicted: (B, 1, H, W).
        target: (B, 1, H, W).
        data_range: of the data set, in the images' unit.
        mask: (B, 1, H, W) bool: the pixels that count; None for all.

    Returns:
        (B,); infinite for equal images, NaN where a mask is empty.
    """
    _check(predicted, target, mask)
    _check_range(data_range)
    precise = _precise(predicted)
    error = _mean(((predicted.to(precise) - target.to(precise)) / data_range) ** 2, mask)
    return -10 * torch.log10(error)


def ssim(predicted: Tensor, target: Tensor, data_range: float, mask: Tensor | None = None) -> Tensor:
    """Structural similarity of each image (Wang et al. 2004).

    Gaussian window of sigma 1.5 and 11 × 11 pixels, K1 = 0.01, K2 = 0.03, population covariance, averaged
    over the windows that lie wholly in the image: scikit-image's ``structural_similarity`` with
    ``gaussian_weights=True, use_sample_covariance=False``.

    Args:
        predicted: (B, 1, H, W), at least 11 × 11 pixels.
        target: (B, 1, H, W).
        data_range: of the data set, in the images' unit.
        mask: (B, 1, H, W) bool: the windows whose centre lies in it count; None for all.

    Returns:
        (B,) in [-1, 1]; NaN where a mask is empty.

    Raises:
        ValueError: shapes differ, or the images are smaller than the window.
    """
    _check(predicted, target, mask)
    _check_range(data_range)
    if min(predicted.shape[-2:]) <= 2 * SSIM_RADIUS:
        raise ValueError(f"SSIM needs at least 11 × 11 pixels, got {tuple(predicted.shape[-2:])}")
    precise = _precise(predicted)
    x, y = predicted.to(precise) / data_range, target.to(precise) / data_range
    mean_x, mean_y, xx, yy, xy = _blur(torch.cat([x, y, x * x, y * y, x * y], dim=1)).split(1, dim=1)
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    variances = xx - mean_x**2 + yy - mean_y**2
    structure = (2 * (xy - mean_x * mean_y) + c2) / (variances + c2)
    inner = slice(SSIM_RADIUS, -SSIM_RADIUS)
    return _mean(luminance * structure, None if mask is None else mask[..., inner, inner])


def reconstruction_metrics(
    raw_true: np.ndarray, raw_predicted: np.ndarray, pixel_mm: float, data_range: float
) -> dict[str, float]:
    """All figures of one predicted image, whole image and bone.

    Args:
        raw_true: (H, W) raw image, background 0.
        raw_predicted: (H, W) in the same unit.
        pixel_mm: edge of a pixel, mm.
        data_range: of the data set, in raw units.

    Returns:
        ``mae`` (raw units), ``psnr`` (dB), ``ssim``, ``bone_dice``, ``bone_height_error_mm`` (absolute). A
        bone that only one of the images has gives Dice 0 and the height error NaN; without any bone both are
        NaN.
    """
    true, predicted = (
        torch.from_numpy(np.ascontiguousarray(raw, np.float32))[None, None]
        for raw in (raw_true, raw_predicted)
    )
    true_mask, predicted_mask = bone_mask(raw_true), bone_mask(raw_predicted)
    heights = [measure(mask, pixel_mm).height for mask in (true_mask, predicted_mask)]
    return {
        "mae": mae(predicted, true).item(),
        "psnr": psnr(predicted, true, data_range).item(),
        "ssim": ssim(predicted, true, data_range).item(),
        "bone_dice": dice(true_mask, predicted_mask),
        "bone_height_error_mm": abs(heights[1] - heights[0]) * pixel_mm,
    }


def _blur(images: Tensor) -> Tensor:
    """Gaussian window means (B, C, H-10, W-10) of (B, C, H, W)."""
    weights = [math.exp(-0.5 * (offset / SSIM_SIGMA) ** 2) for offset in range(-SSIM_RADIUS, SSIM_RADIUS + 1)]
    for dim in (-2, -1):
        # Shifted sums: several times faster in float64 on a CPU than a grouped convolution.
        length = images.shape[dim] - 2 * SSIM_RADIUS
        total = torch.zeros_like(images.narrow(dim, 0, length))
        for start, weight in enumerate(weights):
            total.add_(images.narrow(dim, start, length), alpha=weight / sum(weights))
        images = total
    return images


def _mean(values: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return values.mean(dim=(1, 2, 3))
    return torch.where(mask, values, 0).sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3))


def _precise(images: Tensor) -> torch.dtype:
    """float64 where the device has it: variances are small differences of large squares."""
    return torch.float32 if images.device.type == "mps" else torch.float64


def _check(predicted: Tensor, target: Tensor, mask: Tensor | None) -> None:
    if predicted.ndim != 4 or predicted.shape[1] != 1:
        raise ValueError(f"images of shape (B, 1, H, W) are expected, not {tuple(predicted.shape)}")
    for name, other in (("target", target), ("mask", mask)):
        if other is not None and other.shape != predicted.shape:
            raise ValueError(
                f"{name} has shape {tuple(other.shape)}, the prediction {tuple(predicted.shape)}"
            )


def _check_range(data_range: float) -> None:
    if not (data_range > 0 and math.isfinite(data_range)):
        raise ValueError(f"data_range={data_range}: expected a positive number")
