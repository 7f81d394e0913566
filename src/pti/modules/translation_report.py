"""What validation says about a translation: loss, image and bone figures, as means over all ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from pti.metrics.image import mae, psnr, ssim
from pti.metrics.morphometry import bone_mask, dice, measure
from pti.modules.reconstruction_report import DATA_RANGE
from pti.modules.running_means import RunningMeans


class TranslationReport:
    """Collects per-image figures on each rank; ``compute`` joins them.

    Names: ``loss``; ``l1``, ``psnr`` (dB), ``ssim`` on normalised images; ``bone_dice``,
    ``bone_height_error_mm`` (absolute) on raw images.
    """

    def __init__(self, bone: bool) -> None:
        self.bone = bone
        names = ["loss", "l1", "psnr", "ssim"] + ["bone_dice", "bone_height_error_mm"] * bone
        self.means = RunningMeans(names)

    def reset(self, device: torch.device) -> None:
        """Forgets everything."""
        self.means.reset(device)

    def add_loss(self, loss: Tensor) -> None:
        """The loss of each image, (B,)."""
        self.means.add("loss", loss)

    def add_images(self, target: Tensor, found: Tensor) -> None:
        """Normalised images, (B, 1, H, W)."""
        self.means.add("l1", mae(found, target))
        self.means.add("psnr", psnr(found, target, DATA_RANGE))
        self.means.add("ssim", ssim(found, target, DATA_RANGE))

    def add_bone(self, target: Tensor, found: Tensor, pixel_mm: Tensor) -> None:
        """Raw images (B, 1, H, W) and the edge of a pixel in mm, (B,)."""
        if not self.bone:
            return
        agreements, errors = bone_agreement(target, found, pixel_mm)
        # NaN: an image without bone.
        self.means.add("bone_dice", agreements, skip_nan=True)
        self.means.add("bone_height_error_mm", errors, skip_nan=True)

    def compute(self, reduce: Callable[[Tensor], Tensor]) -> Mapping[str, float]:
        """All figures by name; ``reduce`` sums a tensor over the ranks."""
        return self.means.compute(reduce)


def bone_agreement(true: Tensor, found: Tensor, pixel_mm: Tensor) -> tuple[Tensor, Tensor]:
    """Dice and absolute height error in mm of each image, (B,); NaN where the truth has no bone.

    Raw images (B, 1, H, W) and the edge of a pixel in mm, (B,). A found image without bone is wrong by the
    whole height.
    """
    agreements, errors = [], []
    arrays = (true.squeeze(1).cpu().numpy(), found.squeeze(1).cpu().numpy(), pixel_mm.tolist())
    for truth, image, mm in zip(*arrays, strict=True):
        wanted, got = bone_mask(truth), bone_mask(image)
        agreements.append(dice(got, wanted))
        height = np.nan_to_num(measure(got, mm).height)
        errors.append(abs(height - measure(wanted, mm).height) * mm)
    return torch.tensor(agreements), torch.tensor(errors)
