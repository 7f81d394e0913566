"""Validation metrics as means over all images, whatever the number of batches and ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d
from torchmetrics import Metric

from pti.common.transfer import to_device
from pti.losses import kl_per_image
from pti.metrics.image import mae, psnr, ssim
from pti.modules.raw_agreement import BONE, TEXTURE, RawAgreement
from pti.networks.perceptual import PerceptualLoss
from pti.networks.posterior import Posterior

DATA_RANGE = 2.0
"""Range of normalised images for PSNR and SSIM, the same for every image: [-1, 1]."""

ACTIVE_VARIANCE = 0.01
"""A latent channel is active when its mean varies by more than this over positions and images (Burda et al.
2016, section 5.2), and when the decoder uses it, see `USED_VARIANCE`."""

USED_VARIANCE = 1e-4
"""Part of an image's variance by which the decoded image changes at least when a channel that the decoder
uses is replaced by its mean over positions. Such channels reach 1e-3 or more; those of a decoder that paints
nothing but background vary as well, but change its images by 1e-8 at most."""

_ABLATED_IMAGES = 8  # of each rank, to find the channels that the decoder uses

_GRID = 16  # pixels, edge of the images that `Variation` compares


class RunningMeans(Metric):
    """Means of named per-sample values: sums and counts, added up over the ranks once, by ``compute``.

    Every sample has the same weight, whatever the size of its batch and the number of samples of its rank.
    The names are fixed at the start, so that a rank without samples takes part as well.
    """

    full_state_update = False
    sums: Tensor
    counts: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        for state in ("sums", "counts"):
            self.add_state(state, torch.zeros(len(self.names)), dist_reduce_fx="sum")

    def start(self, device: torch.device) -> None:
        """Reset all sums, in float64 where the device supports it."""
        self.set_dtype(torch.float32 if device.type == "mps" else torch.float64)
        self.to(device)
        self.reset()

    def update(self, name: str, values: Tensor, skip_nan: bool = False) -> None:
        """Add one value per sample, (B,); with ``skip_nan``, NaN means "undefined" and is not counted."""
        values = to_device(values.detach(), self.sums.device, self.sums.dtype)
        valid = ~values.isnan() if skip_nan else torch.ones_like(values, dtype=torch.bool)
        column = self.names.index(name)
        self.sums[column] += torch.where(valid, values, 0.0).sum()
        self.counts[column] += valid.sum()

    def compute(self) -> dict[str, float]:
        """Return the mean of every name that has values, over all ranks."""
        totals = zip(self.names, self.sums.tolist(), self.counts.tolist(), strict=True)
        return {name: total / count for name, total, count in totals if count > 0}


class Variation(Metric):
    """Variance of predictions between images, relative to that of their references, over all ranks.

    0 for predictions that are all alike, about 1 for good ones. Images are compared at 16 × 16 pixels, where
    noise hardly counts.
    """

    full_state_update = False
    count: Tensor
    sums: Tensor
    squares: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("count", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("sums", torch.zeros(2, _GRID, _GRID), dist_reduce_fx="sum")
        self.add_state("squares", torch.zeros(2), dist_reduce_fx="sum")

    def update(self, image: Tensor, prediction: Tensor) -> None:
        """Add references and their predictions, (B, 1, H, W)."""
        grids = _grids(image, prediction).to(self.sums)
        self.count += len(image)
        self.sums += grids.sum(1)
        self.squares += grids.square().sum((1, 2, 3))

    def compute(self) -> float:
        """Return the relative variance; NaN if the references are all alike."""
        means = self.sums / self.count
        reference, predicted = (self.squares / self.count - means.square().sum((1, 2))).tolist()
        enough = reference > 1e-9 * float(self.squares[0] / self.count)
        return max(predicted, 0.0) / reference if enough else np.nan


def relative_variation(image: Tensor, prediction: Tensor) -> Tensor:
    """Return the `Variation` of one batch of images and predictions (B, 1, H, W); 0 for a single image."""
    reference, predicted = _grids(image, prediction).float().var(1, correction=0).mean((1, 2))
    return predicted / reference.clamp_min(1e-6)


def _grids(image: Tensor, prediction: Tensor) -> Tensor:
    """Reduce images and predictions (B, 1, H, W) to (2, B, 16, 16)."""
    both = torch.cat([image, prediction.to(image)]).detach()
    return adaptive_avg_pool2d(both, _GRID).view(2, len(image), _GRID, _GRID)


class ValidationMetrics:
    """Metrics of images against their references, collected on each rank.

    Names: ``l1``, ``psnr`` (dB), ``ssim`` on normalised images; those of `RawAgreement` for ``kinds`` on raw
    images; and ``names``, which are added with `add`. ``l1_vs_constant`` is ``l1`` relative to that of the
    best constant image (1: no better), ``variation`` see `Variation`. Of a ``loss`` with its
    ``constant_loss``, ``loss_vs_constant`` is the ratio.
    """

    def __init__(self, kinds: Sequence[str], names: Sequence[str] = ()) -> None:
        self.raw = RawAgreement(kinds)
        self.means = RunningMeans([*names, "constant_l1", "l1", "psnr", "ssim", *self.raw.names])
        self.variation = Variation()

    def reset(self, device: torch.device) -> None:
        """Forget all images."""
        self.means.start(device)
        self.variation.set_dtype(self.means.sums.dtype).to(device)
        self.variation.reset()
        self.raw.reset()

    def add(self, name: str, values: Tensor) -> None:
        """Add a further value of each image, (B,)."""
        self.means.update(name, values)

    def add_images(self, image: Tensor, prediction: Tensor) -> None:
        """Add normalised images and their predictions, (B, 1, H, W)."""
        self.add("l1", mae(prediction, image))
        median = image.float().flatten(1).median(1).values.view(-1, 1, 1, 1)
        self.add("constant_l1", mae(median.expand_as(image), image))
        self.variation.update(image, prediction)
        self.add("psnr", psnr(prediction, image, DATA_RANGE))
        self.add("ssim", ssim(prediction, image, DATA_RANGE))

    def add_raw(self, raw: Tensor, prediction: Tensor, pixel_mm: Tensor) -> None:
        """Add raw images and their predictions (B, 1, H, W), and the edge of a pixel in mm, (B,)."""
        self._add_agreements(self.raw.add(raw, prediction, pixel_mm))

    def _add_agreements(self, batches: Iterable[dict[str, Tensor]]) -> None:
        for agreement in batches:
            for name, values in agreement.items():
                self.means.update(name, values, skip_nan=True)

    def compute(self) -> dict[str, float]:
        """Return all metrics by name, over all ranks; waits for the device."""
        self._add_agreements(self.raw.rest())
        metrics = self.means.compute()
        for name in ("l1", "loss"):
            constant = metrics.pop(f"constant_{name}", 0.0)
            if constant > 0:
                metrics[f"{name}_vs_constant"] = metrics[name] / constant
        if "l1" in metrics:
            metrics["variation"] = self.variation.compute()
        return metrics


class ReconstructionMetrics(ValidationMetrics):
    """Metrics of an autoencoder: images, texture, bone and latents.

    Names, beside those of `ValidationMetrics`: ``perceptual``; ``kl`` (nats per image), ``kl_per_element``;
    ``latent_mean_C`` and ``latent_std_C`` (of the posterior's mean) of each channel C, ``active_units``.
    """

    def __init__(self, latent_channels: int, perceptual: PerceptualLoss | None, bone: bool) -> None:
        self.channels = range(latent_channels)
        self.perceptual = perceptual
        self._ablated = 0
        sums = [f"{name}_{channel}" for channel in self.channels for name in ("z", "z_squared", "use")]
        names = ["kl", "kl_per_element", "image_variance", *["perceptual"] * (perceptual is not None)]
        super().__init__([TEXTURE, *[BONE] * bone], [*names, *sums])

    def reset(self, device: torch.device) -> None:
        """Forget all images."""
        super().reset(device)
        self._ablated = 0

    def add_images(self, image: Tensor, prediction: Tensor) -> None:
        """Add normalised images and their reconstructions, (B, 1, H, W)."""
        super().add_images(image, prediction)
        if self.perceptual is not None:
            pairs = zip(prediction, image, strict=True)
            self.add("perceptual", torch.stack([self.perceptual(a[None], b[None]) for a, b in pairs]))

    def add_latents(self, posterior: Posterior, image: Tensor, decode: Callable[[Tensor], Tensor]) -> None:
        """Add the posterior of each normalised image (B, 1, H, W); ``decode`` latents to such images."""
        kl = kl_per_image(posterior.mean, posterior.std)
        self.add("kl", kl)
        self.add("kl_per_element", kl / posterior.mean[0].numel())
        z, z_squared = posterior.mean.mean((2, 3)), posterior.mean.square().mean((2, 3))
        for channel in self.channels:
            self.add(f"z_{channel}", z[:, channel])
            self.add(f"z_squared_{channel}", z_squared[:, channel])
        count = _ABLATED_IMAGES - self._ablated
        self._add_uses(posterior.mean[:count], image[:count], decode)
        self._ablated += len(image[:count])

    def _add_uses(self, mean: Tensor, image: Tensor, decode: Callable[[Tensor], Tensor]) -> None:
        """Add how much the decoded images depend on each channel."""
        if len(image):
            self.add("image_variance", image.float().var((1, 2, 3)))
            reconstruction = decode(mean)
            for channel in self.channels:
                ablated = mean.clone()
                ablated[:, channel] = mean[:, channel].mean((1, 2), keepdim=True)
                self.add(f"use_{channel}", (decode(ablated) - reconstruction).square().mean((1, 2, 3)))

    def compute(self) -> dict[str, float]:
        """Return all metrics by name, over all ranks."""
        metrics = super().compute()
        active, image_variance = 0, metrics.pop("image_variance", np.nan)
        for channel in self.channels:
            mean, square = metrics.pop(f"z_{channel}", np.nan), metrics.pop(f"z_squared_{channel}", np.nan)
            variance = max(square - mean**2, 0.0)
            metrics[f"latent_mean_{channel}"], metrics[f"latent_std_{channel}"] = mean, variance**0.5
            used = metrics.pop(f"use_{channel}", np.nan) > USED_VARIANCE * image_variance
            active += used and variance > ACTIVE_VARIANCE
        return metrics | {"active_units": float(active)}
