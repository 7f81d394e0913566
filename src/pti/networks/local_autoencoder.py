"""MONAI's autoencoder with nothing in it that depends on the whole image."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.nets.autoencoderkl import AutoencoderKL
from torch import Tensor, nn
from torch.nn.functional import layer_norm


class PositionNorm(nn.Module):
    """(B, C, H, W): the channels of each position to mean 0 and variance 1, then an affine map.

    Layer normalisation (Ba et al. 2016) as ConvNeXt uses it (Liu et al. 2022, arXiv 2201.03545).
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        # The permuted view is what torch's kernel wants: twice as fast as means over dim 1.
        normed = layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, self.eps)
        return normed.permute(0, 3, 1, 2)


class LocalAutoencoderKL(AutoencoderKL):
    """`AutoencoderKL` whose GroupNorm is replaced by `PositionNorm`; same arguments.

    GroupNorm's statistics are the whole image's. So a bright tooth changes the latents of bone far from it,
    and an image with little tissue is reconstructed too bright. Here latents depend on their surroundings
    alone: bone that is the same in two images has the same latents in both.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for module in list(self.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.GroupNorm):
                    setattr(module, name, PositionNorm(child.num_channels))
