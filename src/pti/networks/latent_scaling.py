"""Scaling of latents to unit standard deviation, by statistics in the checkpoint."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LatentScaling(nn.Module):
    """The map (latents − shift) / scale of each channel; the identity until `fit`.

    Paths mix latents with noise of standard deviation 1, so latents need that standard deviation, too
    (Rombach et al. 2022, appendix G). Buffers: ``shift`` and ``scale`` (1, C, 1, 1), ``fitted`` ().
    """

    shift: Tensor
    scale: Tensor
    fitted: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(1, channels, 1, 1))
        self.register_buffer("scale", torch.ones(1, channels, 1, 1))
        self.register_buffer("fitted", torch.tensor(False))

    def fit(self, count: Tensor, total: Tensor, squares: Tensor) -> None:
        """Compute shift and scale.

        Args:
            count: number of values in a channel, ().
            total: sum of a channel's values, (C,).
            squares: sum of their squares, (C,).

        Raises:
            ValueError: a channel does not vary.
        """
        mean = total.double() / count
        variance = squares.double() / count - mean.square()
        if not (variance > 1e-12).all():
            raise ValueError(f"a latent channel does not vary; variances {variance.tolist()}")
        self.shift.copy_(mean.reshape(self.shift.shape))
        self.scale.copy_(variance.sqrt().reshape(self.scale.shape))
        self.fitted.fill_(True)

    def normalize(self, latents: Tensor) -> Tensor:
        """Scale latents (B, C, h, w)."""
        return (latents - self.shift) / self.scale

    def denormalize(self, scaled: Tensor) -> Tensor:
        """Return the latents of scaled latents (B, C, h, w)."""
        return scaled * self.scale + self.shift
