"""Any image to the square that the networks see, and back. Background stays exactly 0.

A pixel at the rim is background when less than half of it was tissue; otherwise it is the mean of all it
covers, as in any scan. So half of the bone's value marks the rim between two pixels: a bone's height survives
a resize from 256 to 128 and back to a third of a pixel, where a rim of undiluted tissue loses one and a half.
Enlarging is cubic (Keys 1981), within what the four nearest pixels say: sharper than linear, 0.5 dB on a
reconstruction enlarged from 128 to 256, and without halos.
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
    linear = _linear(square.shape[0], size)
    inside = linear @ (square != 0).astype(np.float32) @ linear.T >= 0.5
    if size > square.shape[0]:
        cubic = _cubic(square.shape[0], size)
        values = np.clip(cubic @ square @ cubic.T, *_range_of_nearest(square, size))
    else:
        values = linear @ square @ linear.T
    # Tissue of both signs can average to 0, which would mean background.
    values[values == 0] = np.finfo(np.float32).tiny
    return np.where(inside, values, np.float32(0))


def _centres(before: int, after: int) -> np.ndarray:
    """Where the new pixels' centres lie, in old pixels."""
    return (np.arange(after) + 0.5) * (before / after) - 0.5


@lru_cache(maxsize=32)
def _linear(before: int, after: int) -> np.ndarray:
    """(after, before) float32: linear interpolation; when shrinking, the triangle spans a new pixel."""
    distance = np.abs(np.arange(before) - _centres(before, after)[:, None]) / max(before / after, 1.0)
    return _normalized(np.clip(1 - distance, 0, None))


@lru_cache(maxsize=32)
def _cubic(before: int, after: int) -> np.ndarray:
    """(after, before) float32: cubic convolution with a = −1/2 (Keys 1981, equation 15), for enlarging."""
    d = np.abs(np.arange(before) - _centres(before, after)[:, None])
    near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return _normalized(np.where(d <= 1, near, np.where(d < 2, far, 0)))


def _normalized(weights: np.ndarray) -> np.ndarray:
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _range_of_nearest(square: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest of the four old pixels around each new one, (size, size) each."""
    below = np.floor(_centres(square.shape[0], size)).astype(int)
    ends = [np.clip(places, 0, square.shape[0] - 1) for places in (below, below + 1)]
    four = [square[np.ix_(rows, columns)] for rows in ends for columns in ends]
    return np.minimum.reduce(four), np.maximum.reduce(four)
