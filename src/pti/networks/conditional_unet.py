"""MONAI's diffusion UNet, conditioned on an image's latents."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import torch
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle
from torch.utils.checkpoint import checkpoint

from pti.networks.conditioning import ConditionTokens


class ConditionalUNet(nn.Module):
    """(x (B, C, h, w), timesteps (B,), condition (B, C, h, w)) -> output (B, C, h, w).

    Args:
        latent_channels: C.
        conditioning: ``concat``: the condition's channels are put beside those of x, so that position meets
            position in the first convolution (Saharia et al. 2022, Palette); ``cross_attention``: its tokens
            are attended to at ``attention_levels`` (Rombach et al. 2022, 3.3); ``both``; ``none``: x is the
            condition already.
        position: of the tokens, ``sincos`` or ``none``; see `ConditionTokens`.
        cross_attention_dim: of a token.
        patch_size: latents enter and leave as patches of so many by so many, put into channels (as in Peebles
            and Xie 2023, DiT): every level then works on patch_size² times fewer places.
        channels: of each level; each level after the first halves the sides.
        attention_levels: where there is attention, for each level.
        num_res_blocks: residual blocks a level.
        num_head_channels: channels of an attention head.
        norm_num_groups: groups of GroupNorm; divides every entry of ``channels``.
        use_flash_attention: the same attention without the matrix of all pairs in memory.
        use_checkpoint: compute each level's activations anew in the backward pass instead of keeping them.
    """

    def __init__(
        self,
        latent_channels: int = 4,
        conditioning: Literal["concat", "cross_attention", "both", "none"] = "concat",
        position: str = "sincos",
        cross_attention_dim: int = 512,
        patch_size: int = 1,
        channels: Sequence[int] = (32, 64, 128, 256),
        attention_levels: Sequence[bool] = (False, True, True, True),
        num_res_blocks: int = 2,
        num_head_channels: int = 32,
        norm_num_groups: int = 32,
        use_flash_attention: bool = False,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if conditioning not in ("concat", "cross_attention", "both", "none"):
            raise ValueError(f"conditioning={conditioning}: expected concat, cross_attention, both or none")
        self.latent_channels = latent_channels
        self.patch_size = patch_size
        self.concatenates = conditioning in ("concat", "both")
        attends = conditioning in ("cross_attention", "both")
        self.tokens = ConditionTokens(latent_channels, cross_attention_dim, position) if attends else None
        self.unet = DiffusionModelUNet(
            spatial_dims=2,
            in_channels=latent_channels * (1 + self.concatenates) * patch_size**2,
            out_channels=latent_channels * patch_size**2,
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
        """What the sides of x must be multiples of."""
        if use_checkpoint:
            for block in (*self.unet.down_blocks, self.unet.middle_block, *self.unet.up_blocks):
                block.__class__ = _checkpointed(type(block))

    def forward(self, x: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        """The network's answer, in the paths' words its output."""
        tokens = None if self.tokens is None else self.tokens(condition)
        if self.concatenates:
            x = torch.cat([x, condition], dim=1)
        output = self.unet(pixel_unshuffle(x, self.patch_size), timesteps, context=tokens)
        return pixel_shuffle(output, self.patch_size)


@lru_cache
def _checkpointed(block: type[nn.Module]) -> type[nn.Module]:
    """The same class, its forward wrapped. A changed class, unlike a wrapped module or method, leaves the
    names in the ``state_dict`` and copies of the network (the average) as they are."""

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not (self.training and torch.is_grad_enabled()):
            return block.forward(self, *args, **kwargs)
        return checkpoint(block.forward, self, *args, use_reentrant=False, **kwargs)

    return type(f"Checkpointed{block.__name__}", (block,), {"forward": forward})
