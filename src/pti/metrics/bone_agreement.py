"""Everything that is measured of one predicted image against the true one."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

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
from pti.metrics.texture import Texture

LENGTHS = ("height", *(f"width_{name}" for name in FRACTIONS), *(f"width_at_{mm}mm" for mm in HEIGHTS_MM))
"""The lengths that are compared, by their names in `pti.metrics.morphometry`."""

SIMILARITY = ("mae", "psnr", "ssim", "ms_ssim", "bone_mae", "bone_psnr", "bone_ssim", "bone_ms_ssim")
OVERLAP = ("dice", "iou", "hausdorff95_mm", "crest_shift_mm")

RATIOS = (0.90, 0.95, 0.97)
WITHIN_PX = (5, 10)


@dataclass(frozen=True)
class Bone:
    """A raw image and the bone in it.

    Attributes:
        raw: (H, W), background 0.
        mask: (H, W) bool.
        size: of the mask.
    """

    raw: np.ndarray
    mask: np.ndarray
    size: Morphometry

    @cached_property
    def texture(self) -> Texture:
        """What the texture of others is compared with."""
        return Texture(self.raw, self.mask, self.size.pixel_mm)

    @property
    def lengths(self) -> dict[str, float]:
        """:data:`LENGTHS` and ``area``, mm and mm²; NaN without bone, and for a width above the crest."""
        edge = self.size.pixel_mm
        return {name: getattr(self.size, name) * edge for name in LENGTHS} | {
            "area": self.size.area * edge**2
        }


def find_bone(raw: np.ndarray, pixel_mm: float) -> Bone:
    """The bone in a raw image (H, W) with pixels of ``pixel_mm``."""
    mask = bone_mask(raw)
    return Bone(raw, mask, measure(mask, pixel_mm))


def compare_images(
    true: Bone, predicted: np.ndarray, data_range: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Compare a raw image with the true one.

    Args:
        true: the true image, (H, W).
        predicted: (H, W) in the same unit.
        data_range: of the data set, raw units.

    Returns:
        the figures :data:`SIMILARITY` (``bone_``: within the true bone), :data:`OVERLAP` and
        `pti.metrics.texture.TEXTURE`; and the predicted bone's lengths and area, in mm and mm². An image
        without any bone has lengths and area 0: it is wrong by the whole bone, not left out.
        ``crest_shift_mm`` is the distance between the crests (the centre of the highest row).
    """
    # Here, because they take seconds: what measures in worker processes need not wait for them itself.
    import torch

    from pti.metrics.image import image_metrics

    found, edge = find_bone(predicted, true.size.pixel_mm), true.size.pixel_mm
    with torch.inference_mode():
        image, target, bone = (
            torch.from_numpy(np.ascontiguousarray(array, kind))[None, None]
            for array, kind in ((predicted, np.float32), (true.raw, np.float32), (true.mask, bool))
        )
        similar = image_metrics(image, target, data_range, bone)
    down, across = (getattr(found.size, at) - getattr(true.size, at) for at in ("crest_row", "crest_column"))
    figures = {name: value.item() for name, value in similar.items()} | {
        "dice": dice(true.mask, found.mask),
        "iou": iou(true.mask, found.mask),
        "hausdorff95_mm": hausdorff95(true.mask, found.mask, edge),
        "crest_shift_mm": float(np.hypot(down, across)) * edge,
    }
    figures |= true.texture.compare(predicted)
    return figures, found.lengths if found.mask.any() else dict.fromkeys((*LENGTHS, "area"), 0.0)


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
