"""MONAI's autoencoder without layers whose output depends on the whole image."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.nets.autoencoderkl import AutoencoderKL
from torch import Tensor, nn
from torch.nn.functional import layer_norm
from typing_extensions import override


class PositionNorm(nn.Module):
    """Normalisation of the channels of each position of (B, C, H, W), then an affine map.

    This is layer normalisation (Ba et al. 2016) as in ConvNeXt (Liu et al. 2022, arXiv 2201.03545).
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    @override
    def forward(self, x: Tensor) -> Tensor:
        # torch's kernel on the permuted view is twice as fast as means over dim 1.
        normed = layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, self.eps)
        return normed.permute(0, 3, 1, 2)


class LocalAutoencoderKL(AutoencoderKL):
    """`AutoencoderKL` with `PositionNorm` in place of GroupNorm; takes the same arguments.

    GroupNorm uses statistics of the whole image: a bright tooth changes the latents of bone far away, and an
    image with little tissue is reconstructed too bright. Here, latents depend on their surroundings alone:
    bone that is the same in two images has the same latents in both.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for module in list(self.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.GroupNorm):
                    setattr(module, name, PositionNorm(child.num_channels))
