"""Transfer of detail that the autoencoder lost, where a translation leaves the image unchanged."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, max_pool2d, pad
from typing_extensions import override

DILATION, EROSION = 8 / 256, 4 / 256
"""Fractions of the image's longer edge, as in `pti.metrics.changed_region`."""


class DetailTransfer(nn.Module):
    """The map output = translation + gate · (condition − reconstruction).

    ``translation`` is decoded, ``reconstruction`` is that of the condition, and ``change`` is the root mean
    square of their difference in a Gaussian window. Where the two agree, the autoencoder has lost the same
    detail of condition and target (fine trabeculae, the rim of a canal), and the condition shows that
    detail. The gate is closed over whole regions of change: pixels above the tolerance, dilated by
    :data:`DILATION` and eroded by :data:`EROSION`, because the two also agree by coincidence within a change,
    as at the rim of a lost root, which must not come back. There the output is the decoder's. All images are
    normalised, (B, 1, H, W), range 2. Nothing is learned.

    Args:
        tolerance: largest change that counts as none, in units of normalised images; 0.05 to 0.4.
        sigma: of the window, in pixels; about the size of the smallest structure that the decoder places, 1
            to 4.
    """

    def __init__(self, tolerance: float = 0.2, sigma: float = 2.0) -> None:
        super().__init__()
        if tolerance <= 0 or sigma <= 0:
            raise ValueError(f"tolerance={tolerance}, sigma={sigma}: expected numbers greater than 0")
        self.tolerance = tolerance
        self.sigma = sigma

    @override
    def forward(
        self, translation: Tensor, condition: Tensor, reconstruction: Tensor, zoom: float = 1.0
    ) -> Tensor:
        """Return the translation with the condition's detail; ``zoom`` multiplies ``sigma``."""
        return translation + self.gate(translation, reconstruction, zoom) * (condition - reconstruction)

    def gate(self, translation: Tensor, reconstruction: Tensor, zoom: float = 1.0) -> Tensor:
        """Return (B, 1, H, W): 0 in regions of change, and from 0.5 at their edge to 1 at 3 sigma from it."""
        sigma, size = self.sigma * zoom, max(translation.shape[-2:])
        changed = _blur((translation - reconstruction).square(), sigma) > self.tolerance**2
        outside = 1 - _dilate(changed.to(translation.dtype), round(DILATION * size))
        outside = _dilate(outside, round(EROSION * size))
        return outside * _blur(outside, sigma)


def _dilate(images: Tensor, radius: int) -> Tensor:
    rows = max_pool2d(images, (2 * radius + 1, 1), stride=1, padding=(radius, 0))
    return max_pool2d(rows, (1, 2 * radius + 1), stride=1, padding=(0, radius))


def _blur(images: Tensor, sigma: float) -> Tensor:
    radius = math.ceil(3 * sigma)
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    weights = torch.exp(-0.5 * (offsets / sigma).square())
    weights = (weights / weights.sum()).view(1, 1, 1, -1)
    for kernel in (weights, weights.mT):
        down, across = kernel.shape[2] // 2, kernel.shape[3] // 2
        images = conv2d(pad(images, (across, across, down, down), mode="replicate"), kernel)
    return images
