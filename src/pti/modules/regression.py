"""One deterministic pass from dente to edente: the baseline that a generative model has to improve on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from pti.common.transfer import select
from pti.data.normalization import Normalization
from pti.diffusion.samplers import Progress, Sampler
from pti.losses import at_least_float32
from pti.modules.latent_space import LatentSpace
from pti.modules.own_normalization import OwnNormalization
from pti.modules.translation import Translation
from pti.networks.conditional_unet import ConditionalUNet
from pti.networks.detail_transfer import DetailTransfer
from pti.networks.frozen_autoencoder import FrozenAutoencoder


class Deterministic:
    """Translates with a single prediction."""

    @abstractmethod
    def predict(self, raw: Tensor) -> Tensor:
        """Predict raw edente images (B, 1, H, W), background exactly 0, of raw dente images (B, 1, H, W)."""

    def translate(
        self,
        raw: Tensor,
        generators: Sequence[torch.Generator],
        *,
        images: Sequence[int] | None = None,
        ranks: Sequence[float] | None = None,
        sampler: Sampler | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
        progress: Progress = None,
    ) -> Tensor:
        """Predict; generators and the sampler's settings have no effect."""
        del generators, ranks, sampler, steps, guidance_scale, progress
        return select(self.predict(raw), images)


class Regression(Deterministic, OwnNormalization, Translation):
    """A UNet that learns target − condition in pixels, by the mean absolute error of normalised images.

    Args:
        network: the UNet.
        normalization: of the images; the condition's statistics normalise condition and target.
        translation: of `Translation`.
    """

    def __init__(self, network: ConditionalUNet, normalization: Normalization, **translation: Any) -> None:
        super().__init__(network, **translation)
        self._normalization = normalization

    @override
    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Minimise the mean absolute error of a batch."""
        with self.optimizing(self.network, batch_idx) as minimize:
            condition, target = self._normalize(batch)
            loss = (_predict(self.network, condition) - target).abs().mean()
            minimize(loss)
        return self.end_of_batch({"loss": loss}, len(batch["name"]))

    @override
    def validation_loss(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        condition, target = self._normalize(batch)
        change = target - condition
        constant = change.flatten(1).median(1).values.view(-1, 1, 1, 1)
        errors = (_predict(self.inference_network, condition) - target, change - constant)
        return errors[0].abs().mean((1, 2, 3)), errors[1].abs().mean((1, 2, 3))

    @override
    def predict(self, raw: Tensor) -> Tensor:
        statistics = self.normalization.statistics(raw)
        condition = self.normalization.normalize(raw, statistics)
        return self.normalization.denormalize(_predict(self.inference_network, condition), statistics)

    def _normalize(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Return condition and target, normalised by the condition's statistics."""
        statistics = self.normalization.statistics(batch["condition"])
        condition, target = (
            self.normalization.normalize(batch[name], statistics) for name in ("condition", "target")
        )
        return condition, target


class LatentRegression(Deterministic, Translation):
    """The same in the latents of a trained autoencoder, by the mean squared error of scaled latents.

    Args:
        first_stage: the trained autoencoder.
        network: the UNet.
        sample_posterior: train on samples of the target's posterior, whose mean is then learned.
        cache_latents: ``cache`` of `LatentSpace`.
        latent_views: ``views`` of `LatentSpace`.
        detail_transfer: see `LatentSpace`.
        translation: of `Translation`.
    """

    latent_space: LatentSpace

    def __init__(
        self,
        first_stage: FrozenAutoencoder,
        network: ConditionalUNet,
        *,
        sample_posterior: bool = True,
        cache_latents: bool = True,
        latent_views: int = 8,
        detail_transfer: DetailTransfer | None = None,
        **translation: Any,
    ) -> None:
        space = LatentSpace(first_stage, detail_transfer, sample_posterior, cache_latents, latent_views)
        super().__init__(network, latent_space=space, **translation)

    @override
    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Minimise the mean squared error of a batch."""
        with self.optimizing(self.network, batch_idx) as minimize:
            condition, target = self.latent_space.encode_pair(batch, self.batch_generator())
            loss = (_predict(self.network, condition) - target).square().mean()
            minimize(loss)
        return self.end_of_batch({"loss": loss}, len(target))

    @override
    def validation_loss(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Return the squared error against the posterior's mean, and that of a constant change, (B,)."""
        posteriors, scaling = self.latent_space.posteriors(batch), self.latent_space.scaling
        condition = scaling.normalize(posteriors["condition_mean"])
        target = scaling.normalize(posteriors["target_mean"])
        prediction, change = _predict(self.inference_network, condition), target - condition
        constant = change.var((2, 3), correction=0).mean(1)
        return (prediction - target).square().mean((1, 2, 3)), constant

    @override
    def predict(self, raw: Tensor) -> Tensor:
        condition = self.latent_space.encode_condition(raw)
        return self.latent_space.decode(raw, _predict(self.inference_network, condition))


def _predict(network: nn.Module, condition: Tensor) -> Tensor:
    """Add the network's output to the condition, (B, C, h, w) float32; a new network adds 0."""
    timesteps = torch.zeros(len(condition), device=condition.device)
    return condition + at_least_float32(network(condition, timesteps, condition))
