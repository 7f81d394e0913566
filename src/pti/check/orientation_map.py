"""Maps of the orientation of edges, by which the images of pairs are compared, independent of their contrast.

Each image is reduced to an *orientation map*: a complex number in each cell of a coarse grid, whose angle is
twice that of the intensity gradient, so that dark on bright and bright on dark count alike, and whose size is
the strength of the edge relative to its neighbourhood, saturated, so that the texture of the marrow counts
beside the outline of the bone, and a bright crown no more than they do.
"""

from functools import lru_cache

import numpy as np
from scipy import ndimage

GRID = 128  # cells along each axis of an orientation map; shifts are accurate to about a tenth of a cell
SMALL_GRID = 64  # cells along each axis of the map that is kept to compare pairs with each other
NEIGHBOURHOOD = 9  # cells along each axis of the window whose mean edge strength counts as usual
SATURATION = 2.0  # edge strength that counts half as much as the strongest, in units of the usual one
FAINT_EDGE = 0.01  # added to it, as a fraction of the tissue's range per cell: rounding is not an edge


@lru_cache(maxsize=32)
def _reduction(length: int, square: int, cells: int) -> np.ndarray:
    """Build a (cells, length) matrix that averages ``length`` pixels, centred in ``square``, over cells."""
    offset = (square - length) // 2
    edges = np.arange(cells + 1) * (square / cells) - offset
    pixel = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return (np.clip(overlap, 0, None) * (cells / square)).astype(np.float32)


def _block_means(pixels: np.ndarray) -> np.ndarray:
    """Average (H, W) pixels, padded with 0 to a square, over each cell of (GRID, GRID)."""
    height, width = pixels.shape
    if height == width and height % GRID == 0:  # usual sizes, whole pixels in a cell: four times as fast
        step = height // GRID
        parts = [pixels[row::step, column::step] for row in range(step) for column in range(step)]
        return np.add.reduce(parts) / step**2
    square = max(height, width)
    return _reduction(height, square, GRID) @ pixels @ _reduction(width, square, GRID).T


def reduce_image(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average a raw image over a coarse square grid.

    Args:
        pixels: (H, W) float32, raw, background exactly 0.

    Returns:
        Tissue value and covered fraction of each cell, both (GRID, GRID) float32. Values are scaled from 0
        (2nd percentile of the tissue) to 1 (98th percentile), clipped, and 0 outside the tissue.
    """
    covered = _block_means((pixels != 0).astype(np.float32))
    scaled = np.zeros((GRID, GRID), np.float32)
    inside = covered > 0.02
    if np.count_nonzero(inside) < 16:
        return scaled, scaled
    sums = _block_means(pixels.astype(np.float32, copy=False))
    values = sums[inside] / covered[inside]
    low, high = np.percentile(values, (2, 98))
    scaled[inside] = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    return scaled, covered


def orientation_map(scaled: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Compute the orientation and the saturated strength of the edges of a reduced image.

    Args:
        scaled: tissue value of each cell, from :func:`reduce_image`.
        covered: covered fraction of each cell, from :func:`reduce_image`.

    Returns:
        (GRID, GRID) complex64: strength, below 1, times exp(2i · angle of the gradient).
    """
    # Tissue starts at 0.25, so that dark tissue has an outline as well.
    return edge_orientations(covered * (0.25 + 0.75 * scaled))


def edge_orientations(image: np.ndarray) -> np.ndarray:
    """Compute strength · exp(2i · angle of the gradient) of an image with values from 0 to 1; complex64."""
    for axis in (0, 1):
        image = ndimage.correlate1d(image, (0.25, 0.5, 0.25), axis, mode="nearest")
    down, right = np.gradient(image)
    gradient = np.pad((right + 1j * down)[1:-1, 1:-1], 1)  # the border of the image is not an edge
    strength = np.abs(gradient)
    half = SATURATION * ndimage.uniform_filter(strength, NEIGHBOURHOOD) + FAINT_EDGE
    return (gradient * gradient / (strength * (strength + half) + 1e-12)).astype(np.complex64)


def shrink_map(image: np.ndarray, cells: int = SMALL_GRID) -> np.ndarray:
    """Average a square map over blocks: (cells, cells)."""
    block = image.shape[0] // cells
    return image.reshape(cells, block, cells, block).mean((1, 3))


def pack_map(orientations: np.ndarray) -> np.ndarray:
    """Store an orientation map (H, W) in bytes: (H, W, 2) int8."""
    return np.round(np.stack((np.real(orientations), np.imag(orientations)), -1) * 127).astype(np.int8)


def unpack_map(packed: np.ndarray) -> np.ndarray:
    """Restore a packed orientation map, at unit length: (H, W) complex64."""
    return unit(packed.astype(np.float32).view(np.complex64)[..., 0])


def unit(values: np.ndarray) -> np.ndarray:
    """Scale to unit length; zeros stay zeros."""
    return values / (np.linalg.norm(values) or 1)


def centred_unit(structure: np.ndarray) -> np.ndarray:
    """Centre a map and scale it to unit length, so that the product of two maps is their correlation."""
    return unit(structure - structure.mean())
