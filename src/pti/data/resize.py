"""Any image to the square that the networks see, and back. Background stays exactly 0.

A pixel at the rim is background when less than half of it was tissue; otherwise it is the mean of all it
covers, as in any scan. So half of the bone's value marks the rim between two pixels: a bone's height survives
a resize from 256 to 128 and back to a third of a pixel, where a rim of undiluted tissue loses one and a half.
Enlarging is cubic (Keys 1981), within what the four nearest pixels say: sharper than linear, 0.5 dB on a
reconstruction enlarged from 128 to 256, and without halos.
"""

from functools import lru_cache, reduce

import numpy as np


def pad_and_resize(pixels: np.ndarray, size: int) -> np.ndarray:
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


def restore_size(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The way back from `pad_and_resize`: resize to the square and cut out the original frame.

    Args:
        pixels: (..., size, size) float32 raw images.
        shape: (H, W) of the image that went into `pad_and_resize`.

    Returns:
        (..., H, W) float32 raw images.
    """
    if pixels.shape[-2:] == tuple(shape):
        return pixels
    side = max(shape)
    top, left = _margins(shape, side)
    return _resample(pixels, side)[..., top : top + shape[0], left : left + shape[1]]


def pixel_mm_after(shape: tuple[int, int], size: int, pixel_mm: float) -> float:
    """Edge of a pixel in millimetres after `pad_and_resize`, for an image of (H, W) pixels of ``pixel_mm``."""
    return pixel_mm * max(shape) / size


def _margins(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    return (side - shape[0]) // 2, (side - shape[1]) // 2


def _resample(squares: np.ndarray, size: int) -> np.ndarray:
    """(..., s, s) -> (..., size, size)."""
    before = squares.shape[-1]
    if before == size:
        return squares
    linear = _linear(before, size)
    inside = linear.of((squares != 0).astype(np.float32)) >= 0.5
    if size > before:
        values = np.clip(_cubic(before, size).of(squares), *_range_of_nearest(squares, size))
    else:
        values = linear.of(squares)
    # Tissue of both signs can average to 0, which would mean background.
    values[values == 0] = np.finfo(np.float32).tiny
    return np.where(inside, values, np.float32(0))


class _Weights:
    """A separable linear map of squares: K old pixels along each axis for a new one.

    Not a product with a matrix: that is BLAS with threads of its own, ten times slower where threads of ours
    resize images side by side.
    """

    def __init__(self, dense: np.ndarray) -> None:
        """``dense``: (after, before)."""
        dense = dense / dense.sum(axis=1, keepdims=True)
        most = np.count_nonzero(dense, axis=1).max()
        self.places = np.sort(np.argsort(dense == 0, axis=1, kind="stable")[:, :most], axis=1).T
        self.weights = np.take_along_axis(dense.T, self.places, axis=0).astype(np.float32)

    def of(self, squares: np.ndarray) -> np.ndarray:
        """(..., before, before) float32 -> (..., after, after) float32."""
        pairs = list(zip(self.places, self.weights, strict=True))
        rows = reduce(np.add, (squares[..., place, :] * weight[:, None] for place, weight in pairs))
        return reduce(np.add, (rows[..., place] * weight for place, weight in pairs))


def _centres(before: int, after: int) -> np.ndarray:
    """Where the new pixels' centres lie, in old pixels."""
    return (np.arange(after) + 0.5) * (before / after) - 0.5


@lru_cache(maxsize=32)
def _linear(before: int, after: int) -> _Weights:
    """Linear interpolation; when shrinking, the triangle spans a new pixel."""
    distance = np.abs(np.arange(before) - _centres(before, after)[:, None]) / max(before / after, 1.0)
    return _Weights(np.clip(1 - distance, 0, None))


@lru_cache(maxsize=32)
def _cubic(before: int, after: int) -> _Weights:
    """Cubic convolution with a = −1/2 (Keys 1981, equation 15), for enlarging."""
    d = np.abs(np.arange(before) - _centres(before, after)[:, None])
    near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return _Weights(np.where(d <= 1, near, np.where(d < 2, far, 0)))


def _range_of_nearest(squares: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest of the four old pixels around each new one, (..., size, size) each."""
    last = squares.shape[-1] - 1
    below = np.floor(_centres(last + 1, size)).astype(int)
    first, second = (np.clip(places, 0, last) for places in (below, below + 1))

    def extreme(of: np.ufunc) -> np.ndarray:
        rows = of(squares[..., first, :], squares[..., second, :])
        return of(rows[..., first], rows[..., second])

    return extreme(np.minimum), extreme(np.maximum)
