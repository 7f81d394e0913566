"""Stage 2: a diffusion model that translates the dente image's latents into the edente image's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pti.common.errors import UsageError
from pti.common.randomness import sample_generator
from pti.diffusion.formulation import DiffusionPath, cast, min_snr_weight
from pti.diffusion.guidance import drop_condition, guided
from pti.diffusion.samplers import Progress, Sampler, gaussian_noise, sample
from pti.drawing.figures import Comparison
from pti.losses import at_least_float32
from pti.modules.latent_translation import LatentTranslation
from pti.networks.conditional_unet import ConditionalUNet
from pti.networks.frozen_autoencoder import FrozenAutoencoder

CHANGED = 0.5
"""Root mean square difference of condition and target, in standard deviations of the latents, that is
a change."""

_VALIDATION_DRAWS = 4


class LatentDiffusion(LatentTranslation):
    """A conditional latent diffusion model (Rombach et al. 2022, arXiv 2112.10752) along any ``path``.

    The network sees x_t = a(t)·target + b(t)·source + s(t)·noise, the time and the condition, and learns the
    path's target; minimised is the mean squared error over the latents' elements. Every number's range stands
    in ``conf/model/latent_diffusion.yaml``.

    Args:
        first_stage: the trained autoencoder.
        network: the denoiser.
        path: between target and noise, or target and condition.
        sampler: for translations, of `pti.diffusion.samplers`.
        sampling_steps: of it.
        guidance_scale: 1 = none; others need ``condition_dropout``.
        condition_dropout: share of the training samples whose condition is dropped.
        min_snr_gamma: of the min-SNR weights; None = all times count alike.
        change_loss_weight: of the latents that differ between condition and target (the tooth and the new ridge);
            1 = as all others.
        options: of `LatentTranslation`.
    """

    deterministic = False

    def __init__(
        self,
        first_stage: FrozenAutoencoder,
        network: ConditionalUNet,
        path: DiffusionPath,
        sampler: Sampler,
        *,
        sampling_steps: int = 20,
        guidance_scale: float = 1.0,
        condition_dropout: float = 0.0,
        min_snr_gamma: float | None = None,
        change_loss_weight: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(first_stage, network, **options)
        if not 0 <= condition_dropout < 1:
            raise UsageError(
                f"model.condition_dropout={condition_dropout}: expected a share from 0 to below 1"
            )
        if guidance_scale != 1 and not condition_dropout:
            raise UsageError(
                f"model.guidance_scale={guidance_scale}: guidance needs a network that was trained without "
                "condition too. Set model.condition_dropout=0.1."
            )
        self.path = path
        self.sampler = sampler
        self.sampling_steps = sampling_steps
        self.guidance_scale = guidance_scale
        self.condition_dropout = condition_dropout
        self.min_snr_gamma = min_snr_gamma
        self.change_loss_weight = change_loss_weight

    def training_loss(self, batch: dict[str, Any], generator: torch.Generator) -> Tensor:
        """Ho et al. 2020, algorithm 1, along the path."""
        condition, target = self.scaled_pair(batch, generator)
        t = self.path.training_times(len(target), generator)
        noise = gaussian_noise(target, generator)
        told = drop_condition(condition, self.condition_dropout, generator)
        return self._error(self.network, target, condition, told, t, noise).mean()

    def validation_loss(self, batch: dict[str, Any]) -> Tensor:
        """As in training, with times and noise that depend on the names: comparable between epochs."""
        losses, batch = [], batch | self.posteriors(batch)
        for draw in range(_VALIDATION_DRAWS):
            generators = [sample_generator(self.seed, name, draw) for name in batch["name"]]
            condition, target = self.scaled_pair(batch, generators)
            t = torch.cat([self.path.training_times(1, generator) for generator in generators])
            noise = gaussian_noise(target, generators)
            losses.append(self._error(self.inference_network, target, condition, condition, t, noise))
        return torch.stack(losses).mean(0)

    def translate(
        self,
        raw: Tensor,
        generators: Sequence[torch.Generator],
        *,
        sampler: Sampler | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
        progress: Progress = None,
    ) -> Tensor:
        """One sample for each image; see `Translation.translate`.

        Raises:
            UsageError: guidance of a network that doesn't know it, or steps that the path doesn't have.
        """
        scale = self.guidance_scale if guidance_scale is None else guidance_scale
        if scale != 1 and not self.condition_dropout:
            raise UsageError(
                f"guidance_scale={scale}: this network was trained without condition dropout, so it can't be "
                "guided. Set guidance_scale=1, or train with model.condition_dropout=0.1."
            )
        condition = self.scaled_condition(raw)
        network = guided(self.inference_network, condition, scale)
        noise = gaussian_noise(condition, generators)
        steps = self.sampling_steps if steps is None else steps
        try:
            latents = sample(
                self.path,
                network,
                sampler or self.sampler,
                steps,
                noise,
                generators,
                source=condition,
                progress=progress,
            )
        except ValueError as error:
            raise UsageError(f"steps={steps}: {error}") from None
        return self.decode(raw, latents)

    @torch.no_grad()
    def example_pictures(self, batch: dict[str, Any]) -> dict[str, Comparison]:
        """Also what the network believes at several times on the way."""
        pictures = super().example_pictures(batch)
        beliefs: dict[str, Tensor] = {}
        shown = {round(1 + part * (self.sampling_steps - 1) / 4) for part in range(5)}

        def keep(step: int, x: Tensor, estimate: Any) -> None:
            del x
            if step in shown:
                beliefs[f"step {step} of {self.sampling_steps}"] = estimate.target

        raw = batch["condition"]
        self.translate(raw, [sample_generator(self.seed, name, 0) for name in batch["name"]], progress=keep)
        columns = {title: self.decode(raw, latents) for title, latents in beliefs.items()}
        arrays = {title: image.float().squeeze(1).cpu().numpy() for title, image in columns.items()}
        return pictures | {"denoising": Comparison(arrays, batch["name"])}

    def _error(
        self, network: torch.nn.Module, target: Tensor, source: Tensor, told: Tensor, t: Tensor, noise: Tensor
    ) -> Tensor:
        """Weighted mean squared error of each sample, (B,)."""
        x_t = self.path.interpolate(target, noise, t, source)
        output = network(x_t, self.path.timesteps(t).to(x_t.device), told)
        wanted = self.path.network_target(target, noise, t, source)
        error = (at_least_float32(output) - at_least_float32(wanted)).square()
        if self.change_loss_weight != 1:
            changed = (target - source).square().mean(1, keepdim=True) > CHANGED**2
            weight = torch.where(changed, self.change_loss_weight, 1.0)
            error = error * weight / weight.mean((1, 2, 3), keepdim=True)
        error = error.mean((1, 2, 3))
        if self.min_snr_gamma is None:
            return error
        return error * cast(min_snr_weight(self.path, t, self.min_snr_gamma), error)
