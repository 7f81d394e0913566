"""What validation says about an autoencoder: image, bone and latent figures, as means over all ranks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from pti.losses import kl_per_image
from pti.metrics.image import mae, psnr, ssim
from pti.metrics.morphometry import bone_mask, dice, measure
from pti.modules.running_means import RunningMeans
from pti.networks.perceptual import PerceptualLoss
from pti.networks.posterior import Posterior

DATA_RANGE = 2.0
"""Range of normalised images for PSNR and SSIM, the same for every image: [-1, 1]."""

ACTIVE_VARIANCE = 0.01
"""A channel whose mean varies more than this over positions and images is active (Burda et al. 2016, 5.2)."""


class ReconstructionReport:
    """Collects per-image figures on each rank; ``compute`` joins them.

    Names: ``l1``, ``psnr`` (dB), ``ssim``, ``perceptual`` on normalised images; ``kl`` (nats an image),
    ``kl_per_element``; ``latent_mean_C`` and ``latent_std_C`` (of the posterior's mean) of each channel,
    ``active_units`` (channels); ``bone_dice``, ``bone_height_error_mm`` (absolute) on raw images.
    """

    def __init__(self, latent_channels: int, perceptual: PerceptualLoss | None, bone: bool) -> None:
        self.channels = range(latent_channels)
        self.perceptual = perceptual
        names = ["l1", "psnr", "ssim", "kl", "kl_per_element"]
        names += ["perceptual"] if perceptual is not None else []
        names += ["bone_dice", "bone_height_error_mm"] if bone else []
        self.bone = bone
        self.means = RunningMeans(
            [*names, *(f"{moment}_{c}" for c in self.channels for moment in ("z", "z_squared"))]
        )

    def reset(self, device: torch.device) -> None:
        """Forgets everything."""
        self.means.start(device)

    def add_images(self, image: Tensor, reconstruction: Tensor) -> None:
        """Normalised images, (B, 1, H, W)."""
        self.means.update("l1", mae(reconstruction, image))
        self.means.update("psnr", psnr(reconstruction, image, DATA_RANGE))
        self.means.update("ssim", ssim(reconstruction, image, DATA_RANGE))
        if self.perceptual is not None:
            values = [self.perceptual(a[None], b[None]) for a, b in zip(reconstruction, image, strict=True)]
            self.means.update("perceptual", torch.stack(values))

    def add_latents(self, posterior: Posterior) -> None:
        """The posterior of each image."""
        kl = kl_per_image(posterior.mean, posterior.std)
        self.means.update("kl", kl)
        self.means.update("kl_per_element", kl / posterior.mean[0].numel())
        z, z_squared = posterior.mean.mean((2, 3)), posterior.mean.square().mean((2, 3))
        for c in self.channels:
            self.means.update(f"z_{c}", z[:, c])
            self.means.update(f"z_squared_{c}", z_squared[:, c])

    def add_bone(self, raw: Tensor, reconstruction: Tensor, pixel_mm: Tensor) -> None:
        """Raw images (B, 1, H, W) and the edge of a pixel in mm, (B,)."""
        if not self.bone:
            return
        agreements, errors = bone_agreement(raw, reconstruction, pixel_mm)
        # NaN: an image without bone.
        self.means.update("bone_dice", agreements, skip_nan=True)
        self.means.update("bone_height_error_mm", errors, skip_nan=True)

    def compute(self) -> Mapping[str, float]:
        """All figures by name, over all ranks."""
        figures = self.means.compute()
        active = 0
        for c in self.channels:
            mean, square = figures.pop(f"z_{c}", np.nan), figures.pop(f"z_squared_{c}", np.nan)
            variance = max(square - mean**2, 0.0)
            figures[f"latent_mean_{c}"], figures[f"latent_std_{c}"] = mean, variance**0.5
            active += variance > ACTIVE_VARIANCE
        return figures | {"active_units": float(active)}


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
