"""Puts back what an autoencoder loses, where a translation leaves the image as it was."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad


class DetailTransfer(nn.Module):
    """output = found + gate · (condition − known), gate = exp(−(change / tolerance)²).

    ``found`` is the decoded translation, ``known`` the condition's own reconstruction, ``change`` their
    difference's root mean square in a Gaussian window. Where the two agree, what the autoencoder has lost of
    the condition (fine trabeculae, the rim of a canal) it has lost of the target too, and it is known: it
    stands in the condition. Where they differ, the output is the decoder's. All images are normalised,
    (B, 1, H, W), range 2. Nothing here is learnt.

    Args:
        tolerance: of the change, in units of normalised images; 0.05 to 0.4.
        sigma: of the window, pixels; about the size of what the decoder places as one, 1 to 4.
    """

    def __init__(self, tolerance: float = 0.2, sigma: float = 2.0) -> None:
        super().__init__()
        if tolerance <= 0 or sigma <= 0:
            raise ValueError(f"tolerance={tolerance}, sigma={sigma}: expected numbers above 0")
        self.tolerance = tolerance
        self.sigma = sigma

    def forward(self, found: Tensor, condition: Tensor, known: Tensor, zoom: float = 1.0) -> Tensor:
        """The translation with the condition's detail; ``zoom``: pixels for one of ``sigma``."""
        return found + self.gate(found, known, zoom) * (condition - known)

    def gate(self, found: Tensor, known: Tensor, zoom: float = 1.0) -> Tensor:
        """(B, 1, H, W) in (0, 1]: 1 where nothing has changed."""
        change = _blur((found - known).square(), self.sigma * zoom)
        return torch.exp(-change / self.tolerance**2)


def _blur(images: Tensor, sigma: float) -> Tensor:
    radius = math.ceil(3 * sigma)
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    weights = torch.exp(-0.5 * (offsets / sigma).square())
    weights = (weights / weights.sum()).view(1, 1, 1, -1)
    for kernel in (weights, weights.mT):
        down, across = kernel.shape[2] // 2, kernel.shape[3] // 2
        images = conv2d(pad(images, (across, across, down, down), mode="replicate"), kernel)
    return images
