"""Any image to the square that the networks see, and back. Background stays exactly 0.

A pixel at the rim is background when less than half of it was tissue; otherwise it is the mean of all it
covers, as in any scan. So half of the bone's value marks the rim between two pixels: a bone's height survives
a resize from 256 to 128 and back to a third of a pixel, where a rim of undiluted tissue loses one and a half.
"""

from functools import lru_cache

import numpy as np


def fit(pixels: np.ndarray, size: int) -> np.ndarray:
    """Pad a raw image to a square, centred, and resize it with antialiasing.

    Args:
        pixels: (H, W) float32 raw image, background exactly 0.
        size: side of the result in pixels.

    Returns:
        (size, size) float32 raw image; the same pixels when the image has this shape already.
    """
    if pixels.shape == (size, size):
        return pixels
    side = max(pixels.shape)
    top, left = _margins(pixels.shape, side)
    square = np.zeros((side, side), np.float32)
    square[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return _resample(square, size)


def unfit(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The way back from `fit`: resize to the square and cut out the original frame.

    Args:
        pixels: (size, size) float32 raw image.
        shape: (H, W) of the image that went into `fit`.

    Returns:
        (H, W) float32 raw image.
    """
    if pixels.shape == tuple(shape):
        return pixels
    side = max(shape)
    top, left = _margins(shape, side)
    return _resample(pixels, side)[top : top + shape[0], left : left + shape[1]]


def pixel_mm_after(shape: tuple[int, int], size: int, pixel_mm: float) -> float:
    """Edge of a pixel in millimetres after `fit`, for an image of (H, W) pixels of ``pixel_mm``."""
    return pixel_mm * max(shape) / size


def _margins(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    return (side - shape[0]) // 2, (side - shape[1]) // 2


def _resample(square: np.ndarray, size: int) -> np.ndarray:
    if square.shape[0] == size:
        return square
    weights = _weights(square.shape[0], size)
    tissue = square != 0
    share = weights @ tissue.astype(np.float32) @ weights.T
    values = weights @ square @ weights.T
    inside = share >= 0.5
    # Tissue of both signs can average to 0, which would mean background.
    values[values == 0] = np.finfo(np.float32).tiny
    return np.where(inside, values, np.float32(0))


@lru_cache(maxsize=32)
def _weights(before: int, after: int) -> np.ndarray:
    """(after, before) float32: linear interpolation; when shrinking, the triangle spans a new pixel."""
    scale = before / after
    centres = (np.arange(after) + 0.5) * scale - 0.5
    distance = np.abs(np.arange(before) - centres[:, None]) / max(scale, 1.0)
    weights = np.clip(1 - distance, 0, None)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
