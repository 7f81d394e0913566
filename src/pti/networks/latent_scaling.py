"""Latents of unit standard deviation, by statistics that travel in the checkpoint."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LatentScaling(nn.Module):
    """(latents − shift) / scale, per channel; identity until `fit`.

    Paths mix latents with noise of standard deviation 1, so latents must have it too (Rombach et al. 2022,
    appendix G). Buffers ``shift`` and ``scale`` (1, C, 1, 1), ``fitted`` ().
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
        """From the number of values of a channel (), their sum (C,) and the sum of their squares (C,).

        Raises ``ValueError`` for a channel that doesn't vary.
        """
        mean = total.double() / count
        variance = squares.double() / count - mean.square()
        if not (variance > 1e-12).all():
            raise ValueError(f"latents with a channel that doesn't vary; variances {variance.tolist()}")
        self.shift.copy_(mean.reshape(self.shift.shape))
        self.scale.copy_(variance.sqrt().reshape(self.scale.shape))
        self.fitted.fill_(True)

    def normalize(self, latents: Tensor) -> Tensor:
        """(B, C, h, w) latents -> scaled latents."""
        return (latents - self.shift) / self.scale

    def denormalize(self, scaled: Tensor) -> Tensor:
        """The way back."""
        return scaled * self.scale + self.shift
