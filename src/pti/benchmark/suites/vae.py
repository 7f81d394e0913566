"""Suite ``vae``: a training step of the first stage, ours and the loop that common scripts run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from pti.benchmark.comparison import Comparison, Side, Work
from pti.benchmark.experiments import fix_seed, phantom_overrides, time_epoch, training_batches
from pti.benchmark.settings import SuiteSettings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pti.networks.perceptual import PerceptualLoss


@dataclass
class PlainVae:
    """Train an autoencoder against a discriminator: float32, contiguous, Adam of torch's defaults.

    Attributes:
        autoencoder: MONAI's interface: ``encode`` gives mean and standard deviation, ``decode`` an image.
        discriminator: Images to features, then logits.
        perceptual: The perceptual distance, with its network as published.
        kl_weight, perceptual_weight, adv_weight: Weights of the losses.
    """

    autoencoder: Any
    discriminator: nn.Module
    perceptual: PerceptualLoss
    kl_weight: float
    perceptual_weight: float
    adv_weight: float

    def __post_init__(self) -> None:
        self._generator_optimizer = torch.optim.Adam(self.autoencoder.parameters(), lr=2.5e-5)
        self._discriminator_optimizer = torch.optim.Adam(self.discriminator.parameters(), lr=2.5e-5)

    def generator_loss(self, image: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the loss of images (B, 1, H, W) and their reconstructions.

        ``noise`` (B, C, h, w) is the posterior's; None draws it.
        """
        mean, std = self.autoencoder.encode(image)
        noise = torch.randn_like(std) if noise is None else noise
        reconstruction = self.autoencoder.decode(mean + std * noise)
        kl = 0.5 * (mean**2 + std**2 - torch.log(std**2) - 1).sum(dim=(1, 2, 3)).mean()
        logits = self.discriminator(reconstruction)[-1]
        loss = F.mse_loss(reconstruction, image) + self.kl_weight * kl
        loss = loss + self.perceptual_weight * self.perceptual(reconstruction, image)
        return loss + self.adv_weight * F.mse_loss(logits, torch.ones_like(logits)), reconstruction

    def discriminator_loss(self, image: Tensor, reconstruction: Tensor) -> Tensor:
        """Return the least-squares loss of the discriminator, with a pass for each kind of image."""
        fake = self.discriminator(reconstruction.detach())[-1]
        real = self.discriminator(image)[-1]
        return 0.5 * (F.mse_loss(fake, torch.zeros_like(fake)) + F.mse_loss(real, torch.ones_like(real)))

    def step(self, image: Tensor) -> dict[str, float]:
        """Train both networks on one batch and read the losses for the log."""
        self._generator_optimizer.zero_grad()
        generator, reconstruction = self.generator_loss(image)
        generator.backward()
        self._generator_optimizer.step()
        self._discriminator_optimizer.zero_grad()
        discriminator = self.discriminator_loss(image, reconstruction)
        discriminator.backward()
        self._discriminator_optimizer.step()
        return {"generator": generator.item(), "discriminator": discriminator.item()}


def vae_suite(settings: SuiteSettings) -> list[Comparison]:
    """Compare training steps of the same networks: ``vae_baseline`` on a GPU, ``vae_demo`` on a CPU."""
    name, size, batch = (
        ("vae_baseline", settings.image_size, 8)
        if settings.on_gpu
        else ("vae_demo", min(128, settings.image_size), 2)
    )
    batch = settings.batch_size or batch
    steps = settings.steps or (16 if settings.on_gpu else 8)
    pairs = max(1, -(-batch * steps // 2))  # dente and edente images
    overrides = [*phantom_overrides(settings, size, pairs, batch), "model.disc_start=0"]
    sides = [_side(settings, name, overrides, name)]
    sides.append(_side(settings, f"{name}, channels_last", [*overrides, "model.channels_last=true"], name))
    if settings.device.type == "cuda":
        mixed = [*overrides, "model.channels_last=true"]
        sides.append(_side(settings, f"{name}, bf16-mixed, channels_last", mixed, name, "bf16-mixed"))
    plain = Side("plain: fp32 loop", partial(plain_epoch, settings, name, overrides))
    work = f"training step of {name}, {size} × {size} pixels, batch {batch}"
    return [
        Comparison("vae", work, 2 * pairs, sides, plain, counts_flops=True),
        _perceptual(settings, size, batch),
    ]


def _side(
    settings: SuiteSettings, title: str, overrides: list[str], name: str, precision: str = "32-true"
) -> Side:
    def build() -> Work:
        fix_seed()
        experiment = settings.build(name, overrides)
        return Work(partial(time_epoch, experiment, settings.device, precision))

    return Side(f"pti: {title}", build, "float32" if precision == "32-true" else "bfloat16")


def plain_epoch(settings: SuiteSettings, name: str, overrides: list[str]) -> Work:
    """Build the plain loop over an epoch of normalised images, which are on the device already."""
    from pti.networks.perceptual import Lite0Perceptual

    fix_seed()
    experiment = settings.build(name, overrides)
    module, device = experiment.module, settings.device
    batches = [batch["image"] for batch in training_batches(experiment, device)]
    module.normalization.fit(experiment.data.training_images())
    module = module.to(device).train()
    images = [module.normalization.normalize(raw, module.normalization.statistics(raw)) for raw in batches]
    weights = (module.objective.kl_weight, module.objective.perceptual_weight, module.adv_weight)
    perceptual = Lite0Perceptual(fuse=False).to(device)
    plain = PlainVae(module.autoencoder, module.discriminator, perceptual, *weights)

    def run() -> None:
        for image in images:
            plain.step(image)

    return Work(run, note="images are on the device already")


def _perceptual(settings: SuiteSettings, size: int, batch: int) -> Comparison:
    """Compare the default perceptual distance with its gradient."""

    def build(fuse: bool) -> Work:
        from pti.networks.perceptual import Lite0Perceptual

        generator = torch.Generator().manual_seed(0)
        image, other = torch.rand(2, batch, 1, size, size, generator=generator).to(settings.device)
        other = other.clone().requires_grad_()
        perceptual = Lite0Perceptual(fuse=fuse).to(settings.device)

        def run() -> None:
            perceptual(other, image).backward()

        return Work(run)

    ours, plain = Side("pti: fused", partial(build, True)), Side("plain: as published", partial(build, False))
    work = f"perceptual distance and gradient, {size} × {size} pixels, batch {batch}"
    return Comparison("vae", work, batch, [ours], plain, counts_flops=True)
