"""MONAI's diffusion UNet, conditioned on the latents of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import torch
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle
from torch.utils.checkpoint import checkpoint
from typing_extensions import override


class ConditionalUNet(nn.Module):
    """A UNet (x (B, C, h, w), timesteps (B,), condition (B, C + M, h, w)) -> output (B, C, h, w).

    Args:
        latent_channels: C.
        condition_maps: M, maps of other quantities behind the condition's latents.
        conditioning: ``concat`` concatenates the condition's channels with those of x, so that equal
            positions meet in the first convolution (Saharia et al. 2022, Palette); ``cross_attention``
            attends to its tokens at ``attention_levels`` (Rombach et al. 2022, 3.3); ``both``; ``none``,
            when x already is the condition, concatenates the maps alone.
        position: of the tokens, ``sincos`` or ``none``; see `ConditionTokens`.
        cross_attention_dim: of a token.
        patch_size: edge of the square patches that enter and leave as channels (as in Peebles and Xie 2023,
            DiT): every level then works on patch_size² times fewer positions.
        channels: of each level; each level after the first halves height and width.
        attention_levels: whether each level has attention.
        num_res_blocks: residual blocks of each level.
        num_head_channels: channels of an attention head.
        norm_num_groups: groups of GroupNorm; divides every entry of ``channels``.
        change_gate: return gate · (value − condition's latents) for an output "value" and a "gate" in 0 … 1
            at each position, for paths with ``prediction_type: change``. Where the gate is closed, nothing
            changes; where it is open, the network gives the new latents themselves and need not cancel those
            of the tooth.
        use_flash_attention: compute the same attention without storing the matrix of all pairs.
        use_checkpoint: recompute each level's activations in the backward pass instead of storing them.
    """

    def __init__(
        self,
        latent_channels: int = 4,
        condition_maps: int = 0,
        conditioning: Literal["concat", "cross_attention", "both", "none"] = "concat",
        position: str = "sincos",
        cross_attention_dim: int = 512,
        patch_size: int = 1,
        channels: Sequence[int] = (32, 64, 128, 256),
        attention_levels: Sequence[bool] = (False, True, True, True),
        num_res_blocks: int = 2,
        num_head_channels: int = 32,
        norm_num_groups: int = 32,
        change_gate: bool = False,
        use_flash_attention: bool = False,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if conditioning not in ("concat", "cross_attention", "both", "none"):
            raise ValueError(f"conditioning={conditioning}: expected concat, cross_attention, both or none")
        self.latent_channels = latent_channels
        self.condition_maps = condition_maps
        self.patch_size = patch_size
        self.change_gate = change_gate
        self.concatenates = conditioning in ("concat", "both")
        self.concatenates_maps = conditioning == "none" and condition_maps > 0
        attends = conditioning in ("cross_attention", "both")
        condition_channels = latent_channels + condition_maps
        self.tokens = ConditionTokens(condition_channels, cross_attention_dim, position) if attends else None
        self.unet = DiffusionModelUNet(
            spatial_dims=2,
            in_channels=(
                latent_channels
                + condition_channels * self.concatenates
                + condition_maps * self.concatenates_maps
            )
            * patch_size**2,
            out_channels=(latent_channels + change_gate) * patch_size**2,
            channels=tuple(channels),
            attention_levels=tuple(attention_levels),
            num_res_blocks=num_res_blocks,
            num_head_channels=num_head_channels,
            norm_num_groups=norm_num_groups,
            with_conditioning=attends,
            cross_attention_dim=cross_attention_dim if attends else None,
            use_flash_attention=use_flash_attention,
        )
        self.downsampling = patch_size * 2 ** (len(channels) - 1)
        """Height and width of x must be multiples of this."""
        if use_checkpoint:
            for block in (*self.unet.down_blocks, self.unet.middle_block, *self.unet.up_blocks):
                block.__class__ = _checkpointed(type(block))

    @override
    def forward(self, x: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        """Predict the path's regression target from x_t, (B, C, h, w)."""
        tokens = None if self.tokens is None else self.tokens(condition)
        if self.concatenates:
            x = torch.cat([x, condition], dim=1)
        elif self.concatenates_maps:
            x = torch.cat([x, condition[:, self.latent_channels :]], dim=1)
        output = self.unet(pixel_unshuffle(x, self.patch_size), timesteps, context=tokens)
        output = pixel_shuffle(output, self.patch_size)
        if not self.change_gate:
            return output
        value, gate = output[:, :-1], output[:, -1:]
        return gate.sigmoid() * (value - condition[:, : self.latent_channels])


@lru_cache
def _checkpointed(block: type[nn.Module]) -> type[nn.Module]:
    """Return a subclass whose forward pass is checkpointed.

    Unlike a wrapped module or method, a changed class preserves the names in the ``state_dict`` and copies
    of the network (the average).
    """

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not (self.training and torch.is_grad_enabled()):
            return block.forward(self, *args, **kwargs)
        return checkpoint(block.forward, self, *args, use_reentrant=False, **kwargs)

    return type(f"Checkpointed{block.__name__}", (block,), {"forward": forward})


class ConditionTokens(nn.Module):
    """Tokens (B, h·w, dim) for cross-attention from condition latents (B, C, h, w), one for each position.

    Args:
        latent_channels: C.
        dim: of a token; a multiple of 4 with ``sincos``.
        position: ``sincos`` adds a fixed 2-D position code, sines and cosines of row and column (Vaswani et
            al. 2017, 3.5, half of the channels for each); ``none`` leaves it out, as is common: attention
            then ignores the order of the tokens. Other values raise ``ValueError``.
    """

    def __init__(self, latent_channels: int, dim: int = 512, position: str = "sincos") -> None:
        super().__init__()
        if position not in ("sincos", "none"):
            raise ValueError(f"position={position}: expected sincos or none")
        if position == "sincos" and dim % 4:
            raise ValueError(f"cross_attention_dim={dim}: a 2-D position code needs a multiple of 4")
        self.dim = dim
        self.position = position
        self.projection = nn.Linear(latent_channels, dim)

    @override
    def forward(self, condition: Tensor) -> Tensor:
        """Return the tokens, row by row."""
        tokens = self.projection(condition.flatten(2).mT)
        if self.position == "none":
            return tokens
        rows, columns = condition.shape[-2:]
        return tokens + position_code(rows, columns, self.dim, condition.device).to(tokens)


def position_code(rows: int, columns: int, dim: int, device: torch.device) -> Tensor:
    """Return (rows · columns, dim) float32: sines and cosines of the row, then of the column.

    Each has ``dim`` // 4 channels. Wavelengths rise from 2π to 2π·10,000 positions.
    """
    frequencies = torch.exp(-math.log(10_000) * torch.arange(dim // 4, device=device) / (dim // 4))
    down = torch.arange(rows, device=device).repeat_interleave(columns)
    across = torch.arange(columns, device=device).repeat(rows)
    angles = [place[:, None] * frequencies for place in (down, across)]
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)
