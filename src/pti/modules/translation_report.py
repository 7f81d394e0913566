"""What validation says about a translation: loss, image and bone figures, as means over all ranks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pti.metrics.image import mae, psnr, ssim
from pti.modules.running_means import RunningMeans
from pti.modules.validation_metrics import DATA_RANGE, bone_agreement


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
        self.means.start(device)

    def add_loss(self, loss: Tensor) -> None:
        """The loss of each image, (B,)."""
        self.means.update("loss", loss)

    def add_images(self, target: Tensor, found: Tensor) -> None:
        """Normalised images, (B, 1, H, W)."""
        self.means.update("l1", mae(found, target))
        self.means.update("psnr", psnr(found, target, DATA_RANGE))
        self.means.update("ssim", ssim(found, target, DATA_RANGE))

    def add_bone(self, target: Tensor, found: Tensor, pixel_mm: Tensor) -> None:
        """Raw images (B, 1, H, W) and the edge of a pixel in mm, (B,)."""
        if not self.bone:
            return
        agreements, errors = bone_agreement(target, found, pixel_mm)
        # NaN: an image without bone.
        self.means.update("bone_dice", agreements, skip_nan=True)
        self.means.update("bone_height_error_mm", errors, skip_nan=True)

    def compute(self) -> Mapping[str, float]:
        """All figures by name, over all ranks."""
        return self.means.compute()
