"""The two factors of SSIM in every window of two images, at one scale or at several."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

SIGMA, RADIUS = 1.5, 5
K1, K2 = 0.01, 0.03
WINDOW = 2 * RADIUS + 1


@dataclass(frozen=True)
class Frame:
    """The part of a batch's images outside which there is nothing: all are 0 there.

    Attributes:
        size: (H, W) of the images.
        rows: the first, and the one behind the last.
        columns: the same.
    """

    size: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def windows(self) -> int:
        """How many windows lie wholly in an image."""
        return math.prod(side - 2 * RADIUS for side in self.size)

    def crop(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, h, w)."""
        return images[..., slice(*self.rows), slice(*self.columns)]

    def halved(self) -> "Frame":
        """Of the images at half the size, see :func:`halved`; rows and columns start at even numbers."""
        height, width, *ends = (number // 2 for number in (*self.size, *self.rows, *self.columns))
        return Frame((height, width), (ends[0], ends[1]), (ends[2], ends[3]))

    def with_windows(self, part: Tensor) -> Tensor:
        """(B, C, h, w) of the frame with as much of what lies around it as windows on the frame can see."""
        (top, bottom), (left, right) = (
            (min(2 * RADIUS, start), min(2 * RADIUS, side - stop))
            for side, (start, stop) in zip(self.size, (self.rows, self.columns), strict=True)
        )
        return torch.nn.functional.pad(part, (left, right, top, bottom))


def find_frame(images: Sequence[Tensor], scales: int = 1) -> Frame:
    """The frame of images (B, 1, H, W), so aligned that it can be halved ``scales`` - 1 times."""
    tissue = torch.cat(list(images), dim=1).abs_().sum(dim=(0, 1))
    step, ends = 2 ** (scales - 1), []
    for dim, side in enumerate(tissue.shape):
        # Sums: on a CPU, torch's any() is several times slower.
        found = tissue.sum(dim=1 - dim).nonzero()
        first, last = (int(found[0]), int(found[-1])) if len(found) else (0, 0)
        stop = min((last // step + 1) * step, side)
        ends.append((min(first, stop - step) // step * step, stop))  # something is left when it is halved
    return Frame((tissue.shape[0], tissue.shape[1]), *ends)


def similarity_maps(x: Tensor, y: Tensor, frame: Frame, scales: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
    """SSIM's luminance and contrast · structure (Wang et al. 2004, with C3 = C2 / 2), from fine to coarse.

    Gaussian window of sigma 1.5 and 11 × 11 pixels, K1 = 0.01, K2 = 0.03, population covariance, the windows
    that lie wholly in the image. Each scale holds the 2 × 2 means of the one before.

    Args:
        x: (B, 1, h, w), data range 1: what lies in the frame of images of at least 11 × 11 pixels at the last
            scale.
        y: the same.
        frame: of both, for so many scales.
        scales: how many.

    Yields:
        two maps of the windows on the frame at that scale (:meth:`Frame.with_windows`, without its rim of 5
        pixels); all other windows are empty in both images: exactly 1.
    """
    both = torch.cat([x, y], dim=1)
    for scale in range(scales):
        if scale:
            both, frame = halved(both), frame.halved()
        yield _maps(frame.with_windows(both))


def scales_of(shape: torch.Size, most: int) -> int:
    """How many scales, halving each time, have room for a window."""
    side = min(shape[-2:])
    return sum(side >> scale >= WINDOW for scale in range(most))


def halved(images: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, H // 2, W // 2): the means of 2 × 2 pixels."""
    return torch.nn.functional.avg_pool2d(images, 2)


def _maps(both: Tensor) -> tuple[Tensor, Tensor]:
    """Of two images in two channels."""
    x, y = both.split(1, dim=1)
    mean_x, mean_y, squares, products = _blur(torch.cat([x, y, x * x + y * y, x * y], dim=1)).split(1, dim=1)
    product, square = mean_x * mean_y, mean_x.square() + mean_y.square()
    c1, c2 = K1**2, K2**2
    return (2 * product + c1) / (square + c1), (2 * (products - product) + c2) / (squares - square + c2)


def _blur(images: Tensor) -> Tensor:
    """Gaussian window means (B, C, H-10, W-10) of (B, C, H, W)."""
    # On a CPU, both are several times faster in float64 than a grouped convolution: products with a band
    # matrix for small images, shifted sums for others.
    if max(images.shape[-2:]) <= 96:
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
