"""One deterministic pass from dente to edente: what a generative model has to justify itself against."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pti.data.normalization import Normalization
from pti.diffusion.samplers import Progress, Sampler
from pti.losses import at_least_float32
from pti.modules.latent_translation import LatentTranslation
from pti.modules.translation import Translation
from pti.networks.conditional_unet import ConditionalUNet


class Deterministic:
    """Translates with one prediction, without chance."""

    @abstractmethod
    def predict(self, raw: Tensor) -> Tensor:
        """Raw dente images (B, 1, H, W) -> raw edente images (B, 1, H, W), background exactly 0."""

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
        """The only answer: generators and what a sampler would need are left unused."""
        del generators, sampler, steps, guidance_scale, progress
        return self.predict(raw)


class Regression(Deterministic, Translation):
    """A UNet that learns target − condition in pixels, by the mean absolute error of normalised images.

    ``normalization`` is fitted on the training images before the first step, unless it is already.
    """

    def __init__(self, network: ConditionalUNet, normalization: Normalization, **options: Any) -> None:
        super().__init__(network, **options)
        self._normalization = normalization

    @property
    def normalization(self) -> Normalization:
        """Of the images; the condition's statistics count for both."""
        return self._normalization

    def training_loss(self, batch: dict[str, Any], generator: torch.Generator) -> Tensor:
        """Nothing here is random."""
        del generator
        return self._error(self.network, batch).mean()

    def validation_loss(self, batch: dict[str, Any]) -> Tensor:
        return self._error(self.inference_network, batch)

    def predict(self, raw: Tensor) -> Tensor:
        """Raw dente images (B, 1, H, W) -> raw edente images (B, 1, H, W), background exactly 0."""
        statistics = self.normalization.statistics(raw)
        condition = self.normalization.normalize(raw, statistics)
        return self.normalization.denormalize(answer(self.inference_network, condition), statistics)

    def setup(self, stage: str) -> None:
        """Fits the normalisation where it isn't."""
        super().setup(stage)
        if stage == "fit" and not self.normalization.fitted:
            self.normalization.fit(self.trainer.datamodule.training_images())  # pyright: ignore

    def _error(self, network: torch.nn.Module, batch: dict[str, Any]) -> Tensor:
        """Mean absolute error of each image, (B,)."""
        statistics = self.normalization.statistics(batch["condition"])
        condition, target = (
            self.normalization.normalize(batch[name], statistics) for name in ("condition", "target")
        )
        return (answer(network, condition) - target).abs().mean((1, 2, 3))


class LatentRegression(Deterministic, LatentTranslation):
    """The same in the latents of a trained autoencoder, by the mean squared error of scaled latents."""

    def training_loss(self, batch: dict[str, Any], generator: torch.Generator) -> Tensor:
        """Against samples of the posterior, whose mean is learnt then."""
        condition, target = self.scaled_pair(batch, generator)
        return (answer(self.network, condition) - target).square().mean()

    def validation_loss(self, batch: dict[str, Any]) -> Tensor:
        """Against the mean of the posterior."""
        condition, target, _ = self._encode(batch).unbind(1)
        condition, target = self.scaling.normalize(condition), self.scaling.normalize(target)
        return (answer(self.inference_network, condition) - target).square().mean((1, 2, 3))

    def predict(self, raw: Tensor) -> Tensor:
        """Raw dente images (B, 1, H, W) -> raw edente images (B, 1, H, W), background exactly 0."""
        return self.decode(raw, answer(self.inference_network, self.scaled_condition(raw)))


def answer(network: torch.nn.Module, condition: Tensor) -> Tensor:
    """The condition and what the network adds to it, (B, C, h, w) float32; a new network adds nothing."""
    never = torch.zeros(len(condition), device=condition.device)
    return condition + at_least_float32(network(condition, never, condition))
