"""Suite ``ldm``: a training step of the second stage, ours and the loop that common scripts run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from pti.benchmark.comparison import Comparison, Side, Work
from pti.benchmark.experiments import (
    fix_seed,
    phantom_overrides,
    save_untrained,
    time_epoch,
    training_batches,
)
from pti.benchmark.settings import SuiteSettings

if TYPE_CHECKING:
    from torch import Tensor, nn

EXPERIMENTS = ("ldm_baseline", "ldm_concat", "ldm_demo")
_WITHOUT_DETAIL = ("model/detail_transfer=none", "model/texture=none")  # of decoding, not of training


@dataclass
class PlainDiffusion:
    """Train an epsilon-predicting network, both images encoded in each step: float32, contiguous, Adam.

    Attributes:
        autoencoder: The trained autoencoder; ``encode`` gives mean and standard deviation.
        network: (x_t, timesteps, condition latents) -> predicted noise.
        scale: Factor of the latents.
        steps: Diffusion steps; √β rises evenly from √0.0015 to √0.0195.
    """

    autoencoder: Any
    network: nn.Module
    scale: float
    steps: int = 1000

    def __post_init__(self) -> None:
        betas = torch.linspace(0.0015**0.5, 0.0195**0.5, self.steps, dtype=torch.float64) ** 2
        device = next(self.network.parameters()).device
        self._kept = torch.cumprod(1 - betas, 0).float().to(device)
        self._optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-5)

    @torch.no_grad()
    def encode(self, image: Tensor) -> Tensor:
        """Return a sample of the posterior of normalised images (B, 1, H, W), scaled, (B, C, h, w)."""
        mean, std = self.autoencoder.encode(image)
        return (mean + std * torch.randn_like(std)) * self.scale

    def loss(self, condition: Tensor, x0: Tensor, timesteps: Tensor, noise: Tensor) -> Tensor:
        """Return the mean squared error of the predicted noise.

        Args:
            condition: (B, C, h, w), scaled latents.
            x0: (B, C, h, w), scaled latents of the target.
            timesteps: (B,) from 0 to ``steps`` − 1.
            noise: (B, C, h, w).
        """
        kept = self._kept[timesteps][:, None, None, None]
        x_t = kept.sqrt() * x0 + (1 - kept).sqrt() * noise
        return F.mse_loss(self.network(x_t, timesteps.float(), condition), noise)

    def step(self, condition: Tensor, target: Tensor) -> float:
        """Train on a batch of normalised images, (B, 1, H, W) each, and read the loss for the log."""
        latents, x0 = self.encode(condition), self.encode(target)
        timesteps = torch.randint(0, self.steps, (len(x0),), device=x0.device)
        self._optimizer.zero_grad()
        loss = self.loss(latents, x0, timesteps, torch.randn_like(x0))
        loss.backward()
        self._optimizer.step()
        return loss.item()


def ldm_suite(settings: SuiteSettings) -> list[Comparison]:
    """Compare training steps on the latents of ``vae_baseline``, which is untrained here."""
    size = settings.image_size
    batch = settings.batch_size or (8 if settings.on_gpu else 1)
    steps = settings.steps or (16 if settings.on_gpu else 1)
    overrides = phantom_overrides(settings, size, batch * steps, batch)
    fix_seed()
    autoencoder = settings.scratch / f"vae_baseline_{size}.ckpt"
    save_untrained(settings, "vae_baseline", [*overrides, "model/perceptual=none"], autoencoder)
    overrides = [*overrides, f"autoencoder_ckpt={autoencoder}"]
    ours = [_side(settings, name, overrides) for name in EXPERIMENTS]
    if settings.device.type == "cuda":
        ours += [_side(settings, name, overrides, "bf16-mixed") for name in EXPERIMENTS]
    plain = Side("plain: encoder in each step, cross-attention", partial(plain_epoch, settings, overrides))
    work = f"training step of stage 2, latents {size // 4} × {size // 4}, batch {batch}"
    return [Comparison("ldm", work, batch * steps, ours, plain, "pair", counts_flops=True)]


def _side(settings: SuiteSettings, name: str, overrides: list[str], precision: str = "32-true") -> Side:
    overrides = [*overrides, *(_WITHOUT_DETAIL if name == "ldm_demo" else ())]

    def build() -> Work:
        fix_seed()
        experiment = settings.build(name, overrides)
        return Work(partial(time_epoch, experiment, settings.device, precision))

    mixed = precision != "32-true"
    title = f"pti: {name}" + (f", {precision}" if mixed else "")
    return Side(title, build, "bfloat16" if mixed else "float32")


def plain_epoch(settings: SuiteSettings, overrides: list[str]) -> Work:
    """Build the plain loop over an epoch of normalised image pairs, which are on the device already."""
    fix_seed()
    experiment = settings.build("ldm_baseline", [*overrides, "model.network.position=none"])
    module, device = experiment.module.to(settings.device).train(), settings.device
    normalization = module.normalization
    pairs = []
    for batch in training_batches(experiment, device):
        statistics = normalization.statistics(batch["condition"])
        roles = ("condition", "target")
        pairs.append([normalization.normalize(batch[role], statistics) for role in roles])
    plain = PlainDiffusion(module.latent_space.first_stage.autoencoder, module.network, scale=1.0)
    plain.scale = 1 / plain.encode(pairs[0][1]).std().item()

    def run() -> None:
        for condition, target in pairs:
            plain.step(condition, target)

    return Work(run, note="images are on the device already")
