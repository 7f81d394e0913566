"""How the condition's latents reach the denoiser: beside the noisy latents, as tokens, or both."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class ConditionTokens(nn.Module):
    """Condition latents (B, C, h, w) -> tokens (B, h·w, dim) for cross-attention, one for each position.

    Attention itself doesn't know where a token stands. ``position`` says how it is told: ``sincos`` adds a
    fixed 2-D code, sines and cosines of row and column (Vaswani et al. 2017, 3.5, half of the channels for
    each); ``none`` leaves it out, as is common: the answer is then the same however the tokens are shuffled.

    Raises ``ValueError`` for another ``position``, or a ``dim`` that isn't a multiple of 4 with ``sincos``.
    """

    def __init__(self, latent_channels: int, dim: int = 512, position: str = "sincos") -> None:
        super().__init__()
        if position not in ("sincos", "none"):
            raise ValueError(f"position={position}: expected sincos or none")
        if position == "sincos" and dim % 4:
            raise ValueError(f"dim={dim}: a 2-D position code needs a multiple of 4")
        self.dim = dim
        self.position = position
        self.projection = nn.Linear(latent_channels, dim)

    def forward(self, condition: Tensor) -> Tensor:
        """Tokens, row by row."""
        tokens = self.projection(condition.flatten(2).mT)
        if self.position == "none":
            return tokens
        rows, columns = condition.shape[-2:]
        return tokens + position_code(rows, columns, self.dim, condition.device).to(tokens)


def position_code(rows: int, columns: int, dim: int, device: torch.device) -> Tensor:
    """(rows · columns, dim) float32: sines and cosines of the row, then of the column, ``dim`` // 4 each.

    Wavelengths rise from 2π to 2π·10,000 positions.
    """
    frequencies = torch.exp(-math.log(10_000) * torch.arange(dim // 4, device=device) / (dim // 4))
    down = torch.arange(rows, device=device).repeat_interleave(columns)
    across = torch.arange(columns, device=device).repeat(rows)
    angles = [place[:, None] * frequencies for place in (down, across)]
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)
