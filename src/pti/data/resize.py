"""Resizing of any image to the square that the networks see, and back. Background stays exactly 0.

A pixel at the rim is background if less than half of it was tissue; otherwise it is the mean of everything it
covers, as in any scan. Half of the bone's value therefore marks the rim between two pixels: a bone's height
survives resizing from 256 to 128 and back to a third of a pixel, whereas a rim of undiluted tissue would lose
one and a half. Enlarging is cubic (Keys 1981), limited to the range of the four nearest pixels: sharper than
linear interpolation, by 0.5 dB for a reconstruction enlarged from 128 to 256, and without halos.
"""

from functools import lru_cache, reduce

import numpy as np


def pad_and_resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """Pad a raw image to a centred square and resize it with antialiasing.

    Args:
        pixels: (H, W) float32 raw image, background exactly 0.
        size: Edge of the result in pixels.

    Returns:
        (size, size) float32 raw image; ``pixels`` itself if it already has this shape.
    """
    if pixels.shape == (size, size):
        return pixels
    padded_size = max(pixels.shape)
    square = np.zeros((padded_size, padded_size), np.float32)
    square[_frame(pixels.shape)] = pixels
    return _resample(square, size)


def restore_size(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Reverse `pad_and_resize`: resize to the padded square and crop the original frame.

    Args:
        pixels: (..., size, size) float32 raw images.
        shape: (H, W) of the image before `pad_and_resize`.

    Returns:
        (..., H, W) float32 raw images.
    """
    if pixels.shape[-2:] == tuple(shape):
        return pixels
    return _resample(pixels, max(shape))[(..., *_frame(shape))]


def pixel_mm_after(shape: tuple[int, int], size: int, pixel_mm: float) -> float:
    """Return the edge of a pixel in mm after `pad_and_resize` of (H, W) pixels with edge ``pixel_mm``."""
    return pixel_mm * max(shape) / size


def _frame(shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of the original image within the padded square."""
    top, left = ((max(shape) - length) // 2 for length in shape)
    return slice(top, top + shape[0]), slice(left, left + shape[1])


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
    """A separable linear map of squares: K old pixels along each axis for each new one.

    It avoids a matrix product: BLAS starts threads of its own, which is ten times slower when several threads
    resize images at the same time.
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
    """Centres of the new pixels, in old pixels."""
    return (np.arange(after) + 0.5) * (before / after) - 0.5


@lru_cache(maxsize=32)
def _linear(before: int, after: int) -> _Weights:
    """Linear interpolation; for shrinking, the triangle spans a new pixel."""
    distance = np.abs(np.arange(before) - _centres(before, after)[:, None]) / max(before / after, 1.0)
    return _Weights(np.clip(1 - distance, 0, None))


@lru_cache(maxsize=32)
def _cubic(before: int, after: int) -> _Weights:
    """Cubic convolution with a = −1/2 (Keys 1981, equation 15), for enlarging."""
    d = np.abs(np.arange(before) - _centres(before, after)[:, None])
    near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return _Weights(np.where(d <= 1, near, np.where(d < 2, far, 0)))


def _range_of_nearest(squares: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Minimum and maximum of the four old pixels around each new one, (..., size, size) each."""
    last = squares.shape[-1] - 1
    below = np.floor(_centres(last + 1, size)).astype(int)
    first, second = (np.clip(places, 0, last) for places in (below, below + 1))

    def extreme(of: np.ufunc) -> np.ndarray:
        rows = of(squares[..., first, :], squares[..., second, :])
        return of(rows[..., first], rows[..., second])

    return extreme(np.minimum), extreme(np.maximum)
