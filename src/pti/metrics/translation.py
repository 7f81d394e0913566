"""Metrics of one image's generated samples: bone heights, their spread, agreement with the target."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pti.metrics.calibration import INTERVAL, valid_interval
from pti.metrics.image import reconstruction_metrics
from pti.metrics.morphometry import bone_mask, measure

TARGET_METRICS = ("psnr", "ssim", "bone_dice")
"""Metrics against the target; the same names for each sample and for the mean of the samples."""


def bone_height_mm(raw: np.ndarray, pixel_mm: float) -> float:
    """Measure the height of the bone in a raw image (H, W), mm; 0 without bone.

    With 0 instead of NaN, a sample without bone counts as wrong by the whole height.
    """
    height = measure(bone_mask(raw), pixel_mm).height
    return 0.0 if np.isnan(height) else height * pixel_mm


def median_sample(heights: Sequence[float]) -> int:
    """Return the index of the sample of median height; of two middle ones, that nearer to the mean of all."""
    order = sorted(range(len(heights)), key=lambda index: (heights[index], index))
    low, high = order[(len(order) - 1) // 2], order[len(order) // 2]
    mean = sum(heights) / len(heights)
    return low if mean - heights[low] <= heights[high] - mean else high


def translation_metrics(
    condition: np.ndarray,
    samples: Sequence[np.ndarray],
    pixel_mm: float,
    data_range: float,
    target: np.ndarray | None = None,
) -> dict[str, Any]:
    """Compute all metrics of one image's samples.

    Args:
        condition: (H, W) raw image, background 0.
        samples: (H, W) raw images, background 0; at least one.
        pixel_mm: Edge of a pixel, mm.
        data_range: Data range of the data set, raw units.
        target: (H, W) raw image; None = unknown.

    Returns:
        ``condition_height_mm``; ``median_sample``, the index of the sample of median height, and its
        ``bone_height_mm``; ``height_spread_mm``, the standard deviation (n - 1) of the samples' heights, 0
        for one sample; ``samples``, a list with the ``bone_height_mm`` of each.

        With a target also ``target_height_mm``; ``height_error_mm``, the absolute error of the median sample;
        ``psnr`` (dB), ``ssim`` and ``bone_dice`` of the mean of the samples; and ``height_error_mm``,
        ``psnr``, ``ssim`` and ``bone_dice`` of each of ``samples``.
    """
    each: list[dict[str, float]] = [{"bone_height_mm": bone_height_mm(raw, pixel_mm)} for raw in samples]
    heights = [sample["bone_height_mm"] for sample in each]
    median = median_sample(heights)
    metrics: dict[str, Any] = {
        "condition_height_mm": bone_height_mm(condition, pixel_mm),
        "median_sample": median,
        "bone_height_mm": heights[median],
        "height_spread_mm": float(np.std(heights, ddof=1)) if len(heights) > 1 else 0.0,
        "samples": each,
    }
    if target is None:
        return metrics
    metrics["target_height_mm"] = bone_height_mm(target, pixel_mm)

    def against_target(raw: np.ndarray) -> dict[str, float]:
        values = reconstruction_metrics(target, raw, pixel_mm, data_range)
        return {key: values[key] for key in TARGET_METRICS}

    for sample, raw in zip(each, samples, strict=True):
        sample["height_error_mm"] = abs(sample["bone_height_mm"] - metrics["target_height_mm"])
        sample.update(against_target(raw))
    metrics["height_error_mm"] = each[median]["height_error_mm"]
    return {**metrics, **against_target(mean_image(samples))}


def height_interval(
    metrics: Mapping[str, Any], corrections: Mapping[float, float] | None, evenly_spread: bool = False
) -> dict[str, float]:
    """Compute an interval that covers the height of a new patient with a known probability: :data:`INTERVAL`.

    Args:
        metrics: From :func:`translation_metrics`.
        corrections: Level -> correction of the height, mm, from `pti.metrics.calibration`; None = unknown.
        evenly_spread: The samples are spread evenly, see `pti.metrics.calibration.central_interval`.

    Returns:
        Empty if no correction is known, or none is finite.
    """
    heights = np.array([sample["bone_height_mm"] for sample in metrics["samples"]])
    interval = None if corrections is None else valid_interval(heights, corrections, evenly_spread)
    if interval is None:
        return {}
    return dict(zip(INTERVAL, (interval.level, interval.low, interval.high), strict=True))


def mean_image(samples: Sequence[np.ndarray]) -> np.ndarray:
    """Average raw images (H, W): (H, W) float32; 0 only where all are background."""
    return np.stack(samples).astype(np.float64).mean(axis=0).astype(np.float32)


def spread_image(samples: Sequence[np.ndarray]) -> np.ndarray:
    """Compute the standard deviation (n - 1) of at least two raw images (H, W): (H, W) float32, raw units."""
    return np.stack(samples).astype(np.float64).std(axis=0, ddof=1).astype(np.float32)
