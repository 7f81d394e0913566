"""Transfer of detail that the autoencoder lost, where a translation leaves the image unchanged."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d
from typing_extensions import override

from pti.metrics.changed_region import DILATION, EROSION
from pti.networks.blur import blur


class DetailTransfer(nn.Module):
    """The map output = translation + gate · (condition − reconstruction).

    ``translation`` is decoded, ``reconstruction`` is that of the condition, and ``change`` is the root mean
    square of their difference in a Gaussian window. Where the two agree, the autoencoder has lost the same
    detail of condition and target (fine trabeculae, the rim of a canal), and the condition shows that
    detail. Where they differ, the output is the decoder's. All images are normalised, (B, 1, H, W), range 2.
    Nothing is learned.

    The two also agree by coincidence within a change, as at the rim of a lost root, which must not come back:
    ``by_region``, the gate closes over whole regions, the pixels above the tolerance dilated by
    `DILATION` and eroded by `EROSION` of `pti.metrics.changed_region`. Otherwise it is
    exp(−(change / tolerance)²) in each pixel.

    Args:
        tolerance: largest change that counts as none, in units of normalised images; 0.05 to 0.4.
        sigma: of the window, in pixels; about the size of the smallest structure that the decoder places, 1
            to 4.
        by_region: close the gate over whole regions; False as in checkpoints that don't say so.
    """

    def __init__(self, tolerance: float = 0.2, sigma: float = 2.0, by_region: bool = False) -> None:
        super().__init__()
        if tolerance <= 0 or sigma <= 0:
            raise ValueError(f"tolerance={tolerance}, sigma={sigma}: expected numbers greater than 0")
        self.tolerance = tolerance
        self.sigma = sigma
        self.by_region = by_region

    @override
    def forward(
        self, translation: Tensor, condition: Tensor, reconstruction: Tensor, zoom: float = 1.0
    ) -> Tensor:
        """Return the translation with the condition's detail; ``zoom`` multiplies ``sigma``."""
        return translation + self.gate(translation, reconstruction, zoom) * (condition - reconstruction)

    def gate(
        self, translation: Tensor, reconstruction: Tensor, zoom: float = 1.0, slack: float = 1.0
    ) -> Tensor:
        """Return (B, 1, H, W) in [0, 1]: 1 where nothing has changed; ``slack`` multiplies ``tolerance``.

        By region, it is 0 inside, and rises from 0.5 at the edge of a region to 1 at 3 sigma from it.
        """
        tolerance = slack * self.tolerance
        sigma, size = self.sigma * zoom, max(translation.shape[-2:])
        change = blur((translation - reconstruction).square(), sigma)
        if not self.by_region:
            return torch.exp(-change / tolerance**2)
        changed = (change > tolerance**2).to(translation.dtype)
        outside = 1 - _dilate(changed, round(DILATION * size))
        outside = _dilate(outside, round(EROSION * size))
        return outside * blur(outside, sigma)


def _dilate(images: Tensor, radius: int) -> Tensor:
    rows = max_pool2d(images, (2 * radius + 1, 1), stride=1, padding=(radius, 0))
    return max_pool2d(rows, (1, 2 * radius + 1), stride=1, padding=(0, radius))
