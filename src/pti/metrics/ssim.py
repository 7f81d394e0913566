"""SSIM and MS-SSIM of images with data range 1, over the whole image and under masks.

torchmetrics and MONAI define the same windows but give either no map of contrast · structure, which MS-SSIM
under a mask needs, or only float32 maps, in which small contrasts on a bright background cancel.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from pti.common.transfer import to_device

SIGMA, RADIUS = 1.5, 5
K1, K2 = 0.01, 0.03
WINDOW = 2 * RADIUS + 1

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, from full resolution to a sixteenth (Wang et al. 2003, section 3.2)."""


def scale_count(shape: torch.Size) -> int:
    """Return how many scales of MS-SSIM, each half as large as the one before, have room for a window."""
    return sum(min(shape[-2:]) >> scale >= WINDOW for scale in range(len(MS_SSIM_WEIGHTS)))


def similarity(
    x: Tensor, y: Tensor, masks: Sequence[Tensor | None], scales: int
) -> list[tuple[Tensor, Tensor]]:
    """Compute SSIM and MS-SSIM for each mask; the definitions are in `pti.metrics.image`.

    Args:
        x: (B, 1, H, W), data range 1, at least 11 × 11 pixels at the last scale.
        y: (B, 1, H, W).
        masks: (B, 1, H, W) bool each; None for the whole image.
        scales: Number of scales of MS-SSIM.

    Returns:
        For each mask SSIM in [-1, 1] and MS-SSIM in [0, 1], (B,) each; NaN where the mask is empty.
    """
    both, coverages = torch.cat([x, y], dim=1), [None if mask is None else mask.to(x) for mask in masks]
    single, product = [x.new_empty(0)] * len(masks), [x.new_ones(len(x))] * len(masks)
    for scale in range(scales):
        if scale:
            both = avg_pool2d(both, 2)
            coverages = [None if coverage is None else avg_pool2d(coverage, 2) for coverage in coverages]
        # Windows without tissue are equal in both images: their similarity is exactly 1.
        rows, columns = (_with_tissue(both, dim) for dim in (-2, -1))
        luminance, structure = _maps(both[..., rows, columns])
        ssim_map = luminance * structure
        factors = ssim_map if scale == scales - 1 else structure
        exponent = MS_SSIM_WEIGHTS[scale] / sum(MS_SSIM_WEIGHTS[:scales])
        windows = math.prod(size - 2 * RADIUS for size in both.shape[-2:])
        for index, coverage in enumerate(coverages):
            inside, count = None, windows
            if coverage is not None:
                inside = coverage[..., RADIUS:-RADIUS, RADIUS:-RADIUS] >= 0.5
                count = inside.sum(dim=(1, 2, 3))
                inside = inside[..., _centres(rows), _centres(columns)]
            if scale == 0:
                single[index] = _mean(ssim_map, inside, count)
            product[index] = product[index] * _mean(factors, inside, count).clamp(min=0) ** exponent
    return list(zip(single, product, strict=True))


def _mean(values: Tensor, inside: Tensor | None, count: Tensor | int) -> Tensor:
    """(B,) means over ``count`` windows, of which those not among ``values`` have the value 1."""
    difference = values - 1 if inside is None else (values - 1) * inside
    return 1 + difference.sum(dim=(1, 2, 3)) / count


def _centres(pixels: slice) -> slice:
    """Convert a range of pixels to the range of the windows that lie wholly in it."""
    return slice(pixels.start, pixels.stop - 2 * RADIUS)


def _with_tissue(images: Tensor, dim: int) -> slice:
    """Find the rows (or columns) of all windows that contain a value other than 0, at least one window.

    On a GPU, return all: to look for them, the program would have to wait for it.
    """
    size = images.shape[dim]
    if images.device.type != "cpu":
        return slice(0, size)
    sums = images.abs().sum(dim=(0, 1, -3 - dim))
    filled = sums.nonzero()  # sums, since any() is several times slower on a CPU
    first, last = (int(filled[0]), int(filled[-1])) if len(filled) else (0, 0)
    start = min(max(first - 2 * RADIUS, 0), size - WINDOW)
    return slice(start, max(min(last + WINDOW, size), start + WINDOW))


def _maps(both: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance and contrast · structure in each window, for two images in two channels (B, 2, h, w).

    Equations 6 and 9 to 13 of Wang et al. 2004, with C3 = C2 / 2.
    """
    x, y = both.split(1, dim=1)
    moments = torch.cat([x, y, x * x + y * y, x * y], dim=1)
    # Products with a band matrix: on a CPU several times faster in float64 than a convolution.
    down, across = (_band(size, moments.device, moments.dtype) for size in moments.shape[-2:])
    mean_x, mean_y, squares, products = (down @ moments @ across.T).split(1, dim=1)
    product, square = mean_x * mean_y, mean_x.square() + mean_y.square()
    c1, c2 = K1**2, K2**2
    return (2 * product + c1) / (square + c1), (2 * (products - product) + c2) / (squares - square + c2)


@lru_cache(maxsize=256)
def _band(size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(size - 10, size): the window's weights, one pixel further in each row."""
    weights = [math.exp(-0.5 * (offset / SIGMA) ** 2) for offset in range(-RADIUS, RADIUS + 1)]
    band = torch.zeros(size - 2 * RADIUS, size, dtype=torch.float64)
    for start, weight in enumerate(weights):
        band.diagonal(start).fill_(weight / sum(weights))
    return to_device(band, device, dtype)
