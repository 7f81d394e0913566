"""Gaussian blur of a batch of images, on any device."""

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad


def blur(images: Tensor, sigma: float, mode: str = "replicate") -> Tensor:
    """Blur images (B, 1, H, W) by a Gaussian, cut off at three standard deviations.

    Args:
        images: the images.
        sigma: standard deviation, pixels.
        mode: what lies outside: ``replicate`` repeats the border, ``constant`` is 0.
    """
    radius = math.ceil(3 * sigma)
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    weights = torch.exp(-0.5 * (offsets / sigma).square())
    weights = (weights / weights.sum()).view(1, 1, 1, -1)
    for kernel in (weights, weights.mT):
        down, across = kernel.shape[2] // 2, kernel.shape[3] // 2
        images = conv2d(pad(images, (across, across, down, down), mode=mode), kernel)
    return images
