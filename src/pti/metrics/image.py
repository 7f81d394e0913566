"""Similarity of two images: MAE, PSNR, SSIM and MS-SSIM, each with one definition.

PSNR and SSIM take the data range as an argument: one number for a whole data set (the width of the interval
that contains its tissue). A range taken from each image would score the same error higher in a darker image.
"""

import math

import numpy as np
import torch
from torch import Tensor

from pti.metrics.morphometry import bone_mask, dice, measure
from pti.metrics.ssim import WINDOW, scale_count, similarity


def mae(predicted: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute the mean absolute error of each image, in the images' unit.

    Args:
        predicted: (B, 1, H, W).
        target: (B, 1, H, W).
        mask: (B, 1, H, W) bool, the pixels to average over; None = all.

    Returns:
        (B,); NaN where the mask is empty.

    Raises:
        ValueError: The shapes differ.
    """
    _check(predicted, target, mask)
    return _mean((predicted - target).abs(), mask)


def psnr(predicted: Tensor, target: Tensor, data_range: float, mask: Tensor | None = None) -> Tensor:
    """Compute the peak signal-to-noise ratio 10·log10(data_range² / mean squared error) of each image, dB.

    Args:
        predicted: (B, 1, H, W).
        target: (B, 1, H, W).
        data_range: Data range of the data set, in the images' unit.
        mask: (B, 1, H, W) bool, the pixels to average over; None = all.

    Returns:
        (B,); infinite for equal images, NaN where the mask is empty.

    Raises:
        ValueError: The shapes differ, or the data range isn't positive.
    """
    _check(predicted, target, mask, data_range)
    dtype = _precision(predicted)
    error = _mean(((predicted.to(dtype) - target.to(dtype)) / data_range) ** 2, mask)
    return -10 * torch.log10(error)


def ssim(predicted: Tensor, target: Tensor, data_range: float, mask: Tensor | None = None) -> Tensor:
    """Compute the structural similarity of each image (Wang et al. 2004).

    Gaussian window of sigma 1.5 and 11 × 11 pixels, K1 = 0.01, K2 = 0.03, population covariance, averaged
    over the windows that lie wholly in the image: scikit-image's ``structural_similarity`` with
    ``gaussian_weights=True, use_sample_covariance=False``.

    Args:
        predicted: (B, 1, H, W), at least 11 × 11 pixels.
        target: (B, 1, H, W).
        data_range: Data range of the data set, in the images' unit.
        mask: (B, 1, H, W) bool, the centres of the windows to average over; None = all.

    Returns:
        (B,) in [-1, 1]; NaN where the mask is empty.

    Raises:
        ValueError: The shapes differ, the images are smaller than the window, or the data range isn't
            positive.
    """
    return _similarity(predicted, target, data_range, [mask], 1)[0][0]


def ms_ssim(predicted: Tensor, target: Tensor, data_range: float, mask: Tensor | None = None) -> Tensor:
    """Compute the multi-scale structural similarity of each image (Wang et al. 2003, equation 7).

    The product over the scales of mean(contrast · structure), at the last scale of mean(SSIM), each to the
    power of its weight in `pti.metrics.ssim.MS_SSIM_WEIGHTS`. Windows are those of :func:`ssim`; each scale
    is the 2 × 2 means of the one before; a negative mean counts as 0. Images under 176 pixels have no room
    for five scales: they get as many as the window fits into, with weights scaled to sum to 1.

    Args:
        predicted: (B, 1, H, W), at least 11 × 11 pixels.
        target: (B, 1, H, W).
        data_range: Data range of the data set, in the images' unit.
        mask: (B, 1, H, W) bool, the centres of the windows to average over; at a coarser scale a centre
            counts if at least half of it lies in the mask; None = all.

    Returns:
        (B,) in [0, 1]; NaN where the mask is empty at any scale.

    Raises:
        ValueError: As `ssim`.
    """
    return _similarity(predicted, target, data_range, [mask], scale_count(predicted.shape))[0][1]


def image_metrics(
    predicted: Tensor, target: Tensor, data_range: float, bone: Tensor | None = None
) -> dict[str, Tensor]:
    """Compute all metrics above, over the whole image and within the bone, and share the costly parts.

    Args:
        predicted: (B, 1, H, W).
        target: (B, 1, H, W).
        data_range: Data range of the data set, in the images' unit.
        bone: (B, 1, H, W) bool; None leaves out the metrics within the bone.

    Returns:
        ``mae``, ``psnr``, ``ssim``, ``ms_ssim``, and within the bone ``bone_mae`` …; (B,) each.
    """
    masks = {"": None} if bone is None else {"": None, "bone_": bone}
    scales = scale_count(predicted.shape)
    similarities = _similarity(predicted, target, data_range, list(masks.values()), scales)
    error = predicted.to(_precision(predicted)) - target
    absolute, squared = error.abs(), (error / data_range).square()
    metrics = {}
    for (prefix, mask), (single, multiple) in zip(masks.items(), similarities, strict=True):
        metrics[f"{prefix}mae"] = _mean(absolute, mask)
        metrics[f"{prefix}psnr"] = -10 * torch.log10(_mean(squared, mask))
        metrics[f"{prefix}ssim"], metrics[f"{prefix}ms_ssim"] = single, multiple
    return metrics


def reconstruction_metrics(
    raw_true: np.ndarray, raw_predicted: np.ndarray, pixel_mm: float, data_range: float
) -> dict[str, float]:
    """Compare a predicted raw image with the true one: image metrics and bone metrics.

    Args:
        raw_true: (H, W) raw image, background 0.
        raw_predicted: (H, W) in the same unit.
        pixel_mm: Edge of a pixel, mm.
        data_range: Data range of the data set, raw units.

    Returns:
        ``mae`` (raw units), ``psnr`` (dB), ``ssim``, ``bone_dice``, ``bone_height_error_mm`` (absolute). If
        only one of the images has bone, the Dice is 0 and the height error NaN; if none has, both are NaN.
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


def _similarity(
    predicted: Tensor, target: Tensor, data_range: float, masks: list[Tensor | None], scales: int
) -> list[tuple[Tensor, Tensor]]:
    """SSIM and MS-SSIM of each image for each mask, see `pti.metrics.ssim.similarity`."""
    for mask in masks:
        _check(predicted, target, mask, data_range)
    if min(predicted.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM needs at least 11 × 11 pixels, got {tuple(predicted.shape[-2:])}")
    x, y = (images.to(_precision(images)) / data_range for images in (predicted, target))
    return similarity(x, y, masks, scales)


def _mean(values: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return values.mean(dim=(1, 2, 3))
    return (values * mask).sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3))


def _precision(images: Tensor) -> torch.dtype:
    """Float64 where the device has it: variances are small differences of large squares."""
    return torch.float32 if images.device.type == "mps" else torch.float64


def _check(predicted: Tensor, target: Tensor, mask: Tensor | None, data_range: float = 1.0) -> None:
    if predicted.ndim != 4 or predicted.shape[1] != 1:
        raise ValueError(f"expected images of shape (B, 1, H, W), got {tuple(predicted.shape)}")
    for name, other in (("target", target), ("mask", mask)):
        if other is not None and other.shape != predicted.shape:
            raise ValueError(
                f"{name} has shape {tuple(other.shape)}, the prediction {tuple(predicted.shape)}"
            )
    if not (data_range > 0 and math.isfinite(data_range)):
        raise ValueError(f"data_range={data_range}: expected a positive number")
