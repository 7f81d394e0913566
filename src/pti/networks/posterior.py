"""The posterior over latents that an encoder returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Posterior:
    """q(z | image) = N(mean, std²), both (B, C, h, w) float32; ``std`` is a standard deviation."""

    mean: Tensor
    std: Tensor

    def sample(self, generator: torch.Generator | None = None, noise: float = 0.0) -> Tensor:
        """Draw latents (B, C, h, w) = mean + std · noise.

        Args:
            generator: Of the noise.
            noise: Spread of additional noise: that of an image has |N(0, noise²)| times the standard
                deviation of each channel. A decoder that learns from such latents tolerates the errors of a
                second stage (Zheng et al. 2025, RAE, arXiv 2510.11690).
        """
        latents = self.mean + self.std * self._normal(self.mean.shape, generator)
        if not noise:
            return latents
        strength = noise * self._normal((len(self.mean), 1, 1, 1), generator).abs()
        spread = self.mean.detach().std((0, 2, 3), keepdim=True)
        return latents + strength * spread * self._normal(self.mean.shape, generator)

    def _normal(self, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        return torch.randn(shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype)
