"""Everything that is measured of one predicted image against the true one."""

from collections.abc import Mapping

import numpy as np
import torch

from pti.metrics.image import image_metrics
from pti.metrics.morphometry import FRACTIONS, HEIGHTS_MM, bone_mask, dice, hausdorff95, iou, measure

LENGTHS = ("height", *(f"width_{name}" for name in FRACTIONS), *(f"width_at_{mm}mm" for mm in HEIGHTS_MM))
"""The lengths that are compared, by their names in `pti.metrics.morphometry`."""

SIMILARITY = ("mae", "psnr", "ssim", "ms_ssim", "bone_mae", "bone_psnr", "bone_ssim", "bone_ms_ssim")
OVERLAP = ("dice", "iou", "hausdorff95_mm", "crest_shift_mm")

RATIOS = (0.90, 0.95, 0.97)
WITHIN_PX = (5, 10)


def lengths_of(raw: np.ndarray, pixel_mm: float) -> dict[str, float]:
    """:data:`LENGTHS` and ``area`` of the bone in a raw image (H, W), in mm and mm².

    Where there is no bone all are NaN, as is a width above the crest.
    """
    return _lengths(bone_mask(raw), pixel_mm)


def compare_images(
    true: np.ndarray, predicted: np.ndarray, pixel_mm: float, data_range: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Compare two raw images.

    Args:
        true: (H, W) raw, background 0.
        predicted: (H, W) in the same unit.
        pixel_mm: edge of a pixel, mm.
        data_range: of the data set, raw units.

    Returns:
        the figures :data:`SIMILARITY` (``bone_``: within the true bone) and :data:`OVERLAP`; and the
        predicted bone's lengths and area, in mm and mm². An image without any bone has lengths and area
        0: it is wrong by the whole bone, not left out. ``crest_shift_mm`` is the distance between the crests
        (the centre of the highest row).
    """
    true_mask, mask = bone_mask(true), bone_mask(predicted)
    with torch.inference_mode():
        tensors = (
            torch.from_numpy(np.ascontiguousarray(array, kind))[None, None]
            for array, kind in ((predicted, np.float32), (true, np.float32), (true_mask, bool))
        )
        image, target, bone = tensors
        figures = {
            name: float(value) for name, value in image_metrics(image, target, data_range, bone).items()
        }
    true_size, size = measure(true_mask, pixel_mm), measure(mask, pixel_mm)
    shift = np.hypot(size.crest_row - true_size.crest_row, size.crest_column - true_size.crest_column)
    figures |= {
        "dice": dice(true_mask, mask),
        "iou": iou(true_mask, mask),
        "hausdorff95_mm": hausdorff95(true_mask, mask, pixel_mm),
        "crest_shift_mm": float(shift) * pixel_mm,
    }
    lengths = _lengths(mask, pixel_mm) if mask.any() else dict.fromkeys((*LENGTHS, "area"), 0.0)
    return figures, lengths


def ratio_columns(true_mm: float, predicted_mm: float, pixel_mm: float) -> dict[str, float]:
    """How a predicted length compares with the true one, as ratio and in whole steps.

    Returns:
        ``ratio`` (the smaller divided by the larger), ``within_5px``, ``within_10px``, ``above_0.90``,
        ``above_0.95``, ``above_0.97``: 1 or 0; all NaN where one of the lengths is.
    """
    larger, difference = max(true_mm, predicted_mm), abs(true_mm - predicted_mm) / pixel_mm
    ratio = min(true_mm, predicted_mm) / larger if larger > 0 else np.nan
    if np.isnan(ratio) or np.isnan(difference):
        names = (*(f"within_{px}px" for px in WITHIN_PX), *(f"above_{share:.2f}" for share in RATIOS))
        return dict.fromkeys(("ratio", *names), np.nan)
    # Lengths are whole pixels times a size that is no binary fraction: 5 of them may come out as 5.0000001.
    within: Mapping[str, float] = {f"within_{px}px": float(difference <= px + 1e-6) for px in WITHIN_PX}
    return {"ratio": ratio, **within, **{f"above_{share:.2f}": float(ratio > share) for share in RATIOS}}


def _lengths(mask: np.ndarray, pixel_mm: float) -> dict[str, float]:
    size = measure(mask, pixel_mm)
    return {name: getattr(size, name) * pixel_mm for name in LENGTHS} | {"area": size.area * pixel_mm**2}
