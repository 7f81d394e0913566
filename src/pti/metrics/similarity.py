"""The two factors of SSIM in every window of two images, at one scale or at several."""

import math
from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

SIGMA, RADIUS = 1.5, 5
K1, K2 = 0.01, 0.03
WINDOW = 2 * RADIUS + 1

Box = tuple[tuple[int, int], ...]


def similarity_maps(x: Tensor, y: Tensor, scales: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
    """SSIM's luminance and contrast · structure (Wang et al. 2004, with C3 = C2 / 2), from fine to coarse.

    Gaussian window of sigma 1.5 and 11 × 11 pixels, K1 = 0.01, K2 = 0.03, population covariance, the windows
    that lie wholly in the image. Each scale holds the 2 × 2 means of the one before.

    Args:
        x: (B, 1, H, W), data range 1, at least 11 × 11 pixels at the last scale.
        y: the same.
        scales: how many.

    Yields:
        two (B, 1, h-10, w-10), h and w the size at that scale.
    """
    both = torch.cat([x, y], dim=1)
    box = _tissue(both)
    for scale in range(scales):
        if scale:
            both = halved(both)
            box = tuple((start // 2, -(-stop // 2)) for start, stop in box)
        yield _maps(both, box)


def scales_of(shape: torch.Size, most: int) -> int:
    """How many scales, halving each time, have room for a window."""
    side = min(shape[-2:])
    return sum(side >> scale >= WINDOW for scale in range(most))


def halved(images: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, H // 2, W // 2): the means of 2 × 2 pixels."""
    height, width = (side // 2 * 2 for side in images.shape[-2:])
    parts = (images[..., row:height:2, column:width:2] for row in (0, 1) for column in (0, 1))
    first, second, third, fourth = parts
    return (first + second).add_(third).add_(fourth).mul_(0.25)


def _maps(both: Tensor, box: Box) -> tuple[Tensor, Tensor]:
    """Of two images in two channels; outside the box they are 0."""
    height, width = (side - 2 * RADIUS for side in both.shape[-2:])
    # Windows without tissue in either image are equal: exactly 1, with no need to compute them.
    windows = [
        slice(min(max(0, start - 2 * RADIUS), side), min(stop, side))
        for (start, stop), side in zip(box, (height, width), strict=True)
    ]
    x, y = both[(..., *(slice(part.start, part.stop + 2 * RADIUS) for part in windows))].split(1, dim=1)
    mean_x, mean_y, squares, products = _blur(torch.cat([x, y, x * x + y * y, x * y], dim=1)).split(1, dim=1)
    product, square = mean_x * mean_y, mean_x.square() + mean_y.square()
    c1, c2 = K1**2, K2**2
    luminance, structure = both.new_ones(2, len(both), 1, height, width)
    luminance[(..., *windows)] = (2 * product + c1) / (square + c1)
    structure[(..., *windows)] = (2 * (products - product) + c2) / (squares - square + c2)
    return luminance, structure


def _tissue(images: Tensor) -> Box:
    """First row and column with anything but 0 anywhere in the batch, and those behind the last; (0, 0)s."""
    size = images.abs()
    # Sums: on a CPU, torch's any() is several times slower.
    places = [size.sum(dim=(0, 1, dim)).nonzero() for dim in (3, 2)]
    return tuple((int(found[0]), int(found[-1]) + 1) if len(found) else (0, 0) for found in places)


def _blur(images: Tensor) -> Tensor:
    """Gaussian window means (B, C, H-10, W-10) of (B, C, H, W)."""
    # On a CPU, both are several times faster in float64 than a grouped convolution: products with a band
    # matrix for small images, shifted sums for others.
    if max(images.shape[-2:]) <= 64:
        down, across = (_band(side).to(images) for side in images.shape[-2:])
        return down @ images @ across.T
    weights = _weights()
    for dim in (-2, -1):
        length = images.shape[dim] - 2 * RADIUS
        total = torch.zeros_like(images.narrow(dim, 0, length))
        for start, weight in enumerate(weights):
            total.add_(images.narrow(dim, start, length), alpha=weight)
        images = total
    return images


def _weights() -> list[float]:
    weights = [math.exp(-0.5 * (offset / SIGMA) ** 2) for offset in range(-RADIUS, RADIUS + 1)]
    return [weight / sum(weights) for weight in weights]


@lru_cache(maxsize=256)
def _band(side: int) -> Tensor:
    """(side - 10, side) float64: the window's weights, one pixel further in each row."""
    band = torch.zeros(side - 2 * RADIUS, side, dtype=torch.float64)
    for start, weight in enumerate(_weights()):
        band.diagonal(start).fill_(weight)
    return band
