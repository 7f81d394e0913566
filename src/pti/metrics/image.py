"""How close two images are: MAE, PSNR, SSIM and MS-SSIM, each with one definition.

A data range taken from each image would let a darker image score differently for the same error; so it is an
argument, one number for a whole data set (the width of the interval in which its tissue lies).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pti.metrics.morphometry import bone_mask, dice, measure
from pti.metrics.ssim import RADIUS, WINDOW, Frame, find_frame, halved, scales_of, similarity_maps

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, from full resolution to a sixteenth (Wang et al. 2003, section 3.2)."""


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
    _check_windows(predicted, target, data_range, mask)
    frame = _frame(predicted, target, [mask], 1)
    return _multi_scale(predicted, target, data_range, [mask], frame, 1)[0][0]


def ms_ssim(predicted: Tensor, target: Tensor, data_range: float, mask: Tensor | None = None) -> Tensor:
    """Multi-scale structural similarity of each image (Wang et al. 2003, equation 7).

    The product over the scales of mean(contrast · structure) to the power of :data:`MS_SSIM_WEIGHTS`, at the
    last scale of mean(SSIM); windows as in :func:`ssim`, each scale the 2 × 2 means of the one before, a mean
    below 0 counted as 0. Images under 176 pixels have no room for five scales: they get as many as the
    window fits into, their weights scaled to sum to 1.

    Args:
        predicted: (B, 1, H, W), at least 11 × 11 pixels.
        target: (B, 1, H, W).
        data_range: of the data set, in the images' unit.
        mask: (B, 1, H, W) bool: the windows whose centre lies in it count, at a coarser scale those of which
            at least half lies in it; None for all.

    Returns:
        (B,) in [0, 1]; NaN where a mask is empty (at any scale).

    Raises:
        ValueError: shapes differ, or the images are smaller than the window.
    """
    _check_windows(predicted, target, data_range, mask)
    scales = scales_of(predicted.shape, len(MS_SSIM_WEIGHTS))
    frame = _frame(predicted, target, [mask], scales)
    return _multi_scale(predicted, target, data_range, [mask], frame, scales)[0][1]


def image_metrics(
    predicted: Tensor, target: Tensor, data_range: float, bone: Tensor | None = None
) -> dict[str, Tensor]:
    """All of the above at once, over the whole image and within the bone; the costly parts are shared.

    Args:
        predicted: (B, 1, H, W).
        target: (B, 1, H, W).
        data_range: of the data set, in the images' unit.
        bone: (B, 1, H, W) bool; None leaves out what is measured within it.

    Returns:
        ``mae``, ``psnr``, ``ssim``, ``ms_ssim``, and the same with ``bone_`` before; (B,) each.
    """
    _check_windows(predicted, target, data_range, bone)
    masks = {"": None} if bone is None else {"": None, "bone_": bone}
    scales = scales_of(predicted.shape, len(MS_SSIM_WEIGHTS))
    frame = _frame(predicted, target, list(masks.values()), scales)
    similar = _multi_scale(predicted, target, data_range, list(masks.values()), frame, scales)
    error = frame.crop(predicted).to(_precise(predicted)) - frame.crop(target)
    absolute, squared = error.abs(), (error / data_range).square()
    found = {}
    for (prefix, mask), (single, multiple) in zip(masks.items(), similar, strict=True):
        inside = None if mask is None else frame.crop(mask).to(error)
        count = math.prod(frame.size) if inside is None else _total(inside)
        found[f"{prefix}mae"] = _total(absolute, inside) / count
        found[f"{prefix}psnr"] = -10 * torch.log10(_total(squared, inside) / count)
        found[f"{prefix}ssim"], found[f"{prefix}ms_ssim"] = single, multiple
    return found


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


def _multi_scale(
    predicted: Tensor,
    target: Tensor,
    data_range: float,
    masks: Sequence[Tensor | None],
    frame: Frame,
    scales: int,
) -> list[tuple[Tensor, Tensor]]:
    """For each mask: SSIM and MS-SSIM, (B,) each."""
    x, y = (frame.crop(images).to(_precise(images)) / data_range for images in (predicted, target))
    weights = MS_SSIM_WEIGHTS[:scales]
    shares = [None if mask is None else frame.crop(mask).to(x) for mask in masks]  # of each pixel in the mask
    single, product = [x.new_empty(0)] * len(masks), [x.new_ones(len(x))] * len(masks)
    for scale, (luminance, structure) in enumerate(similarity_maps(x, y, frame, scales)):
        if scale:
            shares = [None if share is None else halved(share) for share in shares]
            frame = frame.halved()
        whole = luminance * structure if scale in (0, scales - 1) else structure
        factors = structure if scale < scales - 1 else whole
        weight = weights[scale] / sum(weights)
        for index, share in enumerate(shares):
            inside = None if share is None else (_inner(frame.with_windows(share)) >= 0.5).to(x)
            if scale == 0:
                single[index] = _mean_of_windows(whole, frame, inside)
            product[index] = product[index] * _mean_of_windows(factors, frame, inside).clamp(min=0) ** weight
    return list(zip(single, product, strict=True))


def _frame(predicted: Tensor, target: Tensor, masks: Sequence[Tensor | None], scales: int) -> Frame:
    """The part of the images where anything is, or a mask wants it."""
    return find_frame([predicted, target, *(mask.to(target) for mask in masks if mask is not None)], scales)


def _mean_of_windows(values: Tensor, frame: Frame, inside: Tensor | None) -> Tensor:
    """(B,) of values on the frame's windows, 1 elsewhere; ``inside`` is 1 where a window counts, else 0."""
    count = frame.windows if inside is None else _total(inside)
    return 1 + _total(values - 1, inside) / count


def _total(values: Tensor, inside: Tensor | None = None) -> Tensor:
    """(B,) sums; ``inside`` is 1 where a value counts, else 0."""
    return (values if inside is None else values * inside).sum(dim=(1, 2, 3))


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


def _check_windows(predicted: Tensor, target: Tensor, data_range: float, mask: Tensor | None) -> None:
    _check(predicted, target, mask)
    _check_range(data_range)
    if min(predicted.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM needs at least 11 × 11 pixels, got {tuple(predicted.shape[-2:])}")


def _inner(mask: Tensor) -> Tensor:
    """The windows' centres."""
    return mask[..., RADIUS:-RADIUS, RADIUS:-RADIUS]


def _check_range(data_range: float) -> None:
    if not (data_range > 0 and math.isfinite(data_range)):
        raise ValueError(f"data_range={data_range}: expected a positive number")
