"""How well an image's generated samples hit its target, and the simplest prediction to compare them with."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from pti.common.progress import track
from pti.data import tif
from pti.metrics.calibration import INTERVAL, valid_interval
from pti.metrics.image import reconstruction_metrics
from pti.metrics.morphometry import bone_mask, measure

OF_THE_MEAN = ("psnr", "ssim", "bone_dice")
"""Figures of the mean of the samples; the same names stand among those of each sample."""

_READERS = 4


def bone_height_mm(raw: np.ndarray, pixel_mm: float) -> float:
    """Height of the bone in a raw image (H, W), mm; 0 where there is none: a sample without bone is wrong by
    the whole height, not left out."""
    height = measure(bone_mask(raw), pixel_mm).height
    return 0.0 if np.isnan(height) else height * pixel_mm


def median_sample(heights: Sequence[float]) -> int:
    """Index of the sample of median height; of two middle ones, that nearer to the mean of all."""
    order = sorted(range(len(heights)), key=lambda index: (heights[index], index))
    low, high = order[(len(order) - 1) // 2], order[len(order) // 2]
    mean = sum(heights) / len(heights)
    return low if mean - heights[low] <= heights[high] - mean else high


def translation_figures(
    condition: np.ndarray,
    samples: Sequence[np.ndarray],
    pixel_mm: float,
    data_range: float,
    target: np.ndarray | None = None,
) -> dict[str, Any]:
    """All figures of one image's samples.

    Args:
        condition: (H, W) raw image, background 0.
        samples: (H, W) raw images, background 0; one at least.
        pixel_mm: edge of a pixel, mm.
        data_range: of the data set, raw units.
        target: (H, W) raw image; None where it isn't known.

    Returns:
        ``condition_height_mm``; ``median_sample``, the index of the sample of median height, and its
        ``bone_height_mm``; ``height_spread_mm``, the standard deviation (n - 1) of the samples' heights, 0
        for one; ``samples``, a list with ``bone_height_mm`` of each.

        With a target also ``target_height_mm``; ``height_error_mm``, absolute, of the median sample; ``psnr``
        (dB), ``ssim`` and ``bone_dice`` of the mean of the samples; and ``height_error_mm``, ``psnr``,
        ``ssim`` and ``bone_dice`` of each of ``samples``.
    """
    each: list[dict[str, float]] = [{"bone_height_mm": bone_height_mm(one, pixel_mm)} for one in samples]
    heights = [one["bone_height_mm"] for one in each]
    median = median_sample(heights)
    found: dict[str, Any] = {
        "condition_height_mm": bone_height_mm(condition, pixel_mm),
        "median_sample": median,
        "bone_height_mm": heights[median],
        "height_spread_mm": float(np.std(heights, ddof=1)) if len(heights) > 1 else 0.0,
        "samples": each,
    }
    if target is None:
        return found
    found["target_height_mm"] = bone_height_mm(target, pixel_mm)
    for figures, sample in zip(each, samples, strict=True):
        figures["height_error_mm"] = abs(figures["bone_height_mm"] - found["target_height_mm"])
        figures.update(_likeness(target, sample, pixel_mm, data_range))
    found["height_error_mm"] = each[median]["height_error_mm"]
    return {**found, **_likeness(target, mean_image(samples), pixel_mm, data_range)}


def height_interval(
    figures: Mapping[str, Any], corrections: Mapping[float, float] | None
) -> dict[str, float]:
    """An interval that holds the height of a new patient with a known probability: :data:`INTERVAL`.

    Args:
        figures: from :func:`translation_figures`.
        corrections: level -> correction of the height, mm, from `pti.metrics.calibration`; None = unknown.

    Returns:
        empty where no correction is known, or none is finite.
    """
    heights = np.array([sample["bone_height_mm"] for sample in figures["samples"]])
    found = None if corrections is None else valid_interval(heights, corrections)
    return {} if found is None else dict(zip(INTERVAL, (found.level, found.low, found.high), strict=True))


def mean_image(samples: Sequence[np.ndarray]) -> np.ndarray:
    """(H, W) float32 mean of raw images (H, W); 0 only where all are background."""
    return np.stack(samples).astype(np.float64).mean(axis=0).astype(np.float32)


def spread_image(samples: Sequence[np.ndarray]) -> np.ndarray:
    """(H, W) float32 standard deviation (n - 1) over raw images (H, W), two at least; raw units."""
    return np.stack(samples).astype(np.float64).std(axis=0, ddof=1).astype(np.float32)


def mean_height_loss_mm(pairs: Sequence[tuple[Path, Path]], pixel_mm: float) -> float:
    """How much lower the bone of the target is than that of the condition, mean over pairs, mm.

    The dente height minus this is the simplest prediction of the edente height, the offset baseline.

    Args:
        pairs: (condition, target) files; one at least.
        pixel_mm: edge of a pixel in mm, for files that don't say.

    Raises:
        TifError: a file can't be used.
    """

    def loss(pair: tuple[Path, Path]) -> float:
        images = [tif.read(path) for path in pair]
        condition, target = (bone_height_mm(one.pixels, one.pixel_mm or pixel_mm) for one in images)
        return condition - target

    with ThreadPoolExecutor(_READERS) as readers:
        losses = list(track(readers.map(loss, pairs), "Measuring the training side", total=len(pairs)))
    return sum(losses) / len(losses)


def _likeness(target: np.ndarray, image: np.ndarray, pixel_mm: float, data_range: float) -> dict[str, float]:
    found = reconstruction_metrics(target, image, pixel_mm, data_range)
    return {key: found[key] for key in OF_THE_MEAN}
