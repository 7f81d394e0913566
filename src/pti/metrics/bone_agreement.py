"""Agreement of a predicted image with the true one: similarity, overlap, lengths of the bone."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pti.metrics.crest import crest_roughness
from pti.metrics.morphometry import (
    FRACTIONS,
    HEIGHTS_MM,
    Morphometry,
    bone_mask,
    dice,
    hausdorff95,
    iou,
    measure,
)

LENGTHS = ("height", *(f"width_{name}" for name in FRACTIONS), *(f"width_at_{mm}mm" for mm in HEIGHTS_MM))
"""The lengths that are compared, named as in `pti.metrics.morphometry`."""

SIMILARITY = ("mae", "psnr", "ssim", "ms_ssim", "bone_mae", "bone_psnr", "bone_ssim", "bone_ms_ssim")
OVERLAP = ("dice", "iou", "hausdorff95_mm", "crest_shift_mm")
CREST = ("crest_roughness_mm", "crest_roughness_ratio")

STRAIGHT_MM = 1e-6
"""A true crest as straight as this, mm, has no roughness to compare with."""

RATIOS = (0.90, 0.95, 0.97)
WITHIN_PX = (5, 10)


@dataclass(frozen=True)
class Bone:
    """A raw image and the bone in it.

    Attributes:
        raw: (H, W), background 0.
        mask: (H, W) bool.
        size: Size of the mask.
    """

    raw: np.ndarray
    mask: np.ndarray
    size: Morphometry

    @property
    def lengths(self) -> dict[str, float]:
        """:data:`LENGTHS` and ``area``, mm and mm²; NaN without bone, and for a width above the crest."""
        edge = self.size.pixel_mm
        lengths = {name: getattr(self.size, name) * edge for name in LENGTHS}
        return lengths | {"area": self.size.area * edge**2}

    @cached_property
    def crest_roughness(self) -> float:
        """Roughness of the crest, mm: `pti.metrics.crest.crest_roughness`."""
        return crest_roughness(self.mask, self.size.pixel_mm)


def find_bone(raw: np.ndarray, pixel_mm: float) -> Bone:
    """Find and measure the bone in a raw image (H, W) with pixels of ``pixel_mm``."""
    mask = bone_mask(raw)
    return Bone(raw, mask, measure(mask, pixel_mm))


def compare_images(
    true: Bone, predicted: np.ndarray, data_range: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Compare a predicted raw image with the true one.

    Args:
        true: The true image, (H, W).
        predicted: (H, W) in the same unit.
        data_range: Data range of the data set, raw units.

    Returns:
        The metrics :data:`SIMILARITY` (``bone_``: within the true bone), :data:`OVERLAP` and :data:`CREST`;
        and the predicted bone's lengths and area, in mm and mm².
        ``crest_shift_mm`` is the distance between the crests (the centre of the highest row).
        ``crest_roughness_mm`` is the predicted crest's, ``crest_roughness_ratio`` this divided by the true
        one's; both NaN where undefined, the ratio also if the true crest is straight. The lengths and the
        area of an image without bone are 0: they count as wrong by the whole bone.
    """
    # Imported here because torch takes seconds: a process whose workers measure doesn't need it.
    import torch

    from pti.metrics.image import image_metrics

    bone, edge = find_bone(predicted, true.size.pixel_mm), true.size.pixel_mm
    with torch.inference_mode():
        image, target, mask = (
            torch.from_numpy(np.ascontiguousarray(array, kind))[None, None]
            for array, kind in ((predicted, np.float32), (true.raw, np.float32), (true.mask, bool))
        )
        similarity = image_metrics(image, target, data_range, mask)
    down, across = (getattr(bone.size, at) - getattr(true.size, at) for at in ("crest_row", "crest_column"))
    roughness, true_roughness = bone.crest_roughness, true.crest_roughness
    metrics = {name: value.item() for name, value in similarity.items()} | {
        "dice": dice(true.mask, bone.mask),
        "iou": iou(true.mask, bone.mask),
        "hausdorff95_mm": hausdorff95(true.mask, bone.mask, edge),
        "crest_shift_mm": float(np.hypot(down, across)) * edge,
        "crest_roughness_mm": roughness,
        "crest_roughness_ratio": roughness / true_roughness if true_roughness > STRAIGHT_MM else np.nan,
    }
    return metrics, bone.lengths if bone.mask.any() else dict.fromkeys((*LENGTHS, "area"), 0.0)


def ratio_columns(true_mm: float, predicted_mm: float, pixel_mm: float) -> dict[str, float]:
    """Compare a predicted length with the true one, as a ratio and against thresholds.

    Returns:
        ``ratio`` (the smaller divided by the larger), ``within_5px``, ``within_10px``, ``above_0.90``,
        ``above_0.95``, ``above_0.97``: 1 or 0; all NaN if one of the lengths is NaN or both are 0.
    """
    larger, difference = max(true_mm, predicted_mm), abs(true_mm - predicted_mm) / pixel_mm
    ratio = min(true_mm, predicted_mm) / larger if larger > 0 else np.nan
    # Lengths are multiples of the pixel size up to rounding: 5 pixels may come out as 5.0000001.
    columns = {"ratio": ratio} | {f"within_{px}px": float(difference <= px + 1e-6) for px in WITHIN_PX}
    columns |= {f"above_{threshold:.2f}": float(ratio > threshold) for threshold in RATIOS}
    return dict.fromkeys(columns, np.nan) if np.isnan(ratio) or np.isnan(difference) else columns
