"""Resizing of any image to the square that the networks see, and back. Background stays exactly 0.

A pixel at the rim is background if less than half of it was tissue; otherwise it is the mean of everything it
covers, as in any scan. Half of the bone's value therefore marks the rim between two pixels: a bone's height
survives resizing from 256 to 128 and back to a third of a pixel, whereas a rim of undiluted tissue would lose
one and a half. Enlarging is cubic (Keys 1981), limited to the range of the four nearest pixels: sharper than
linear interpolation, by 0.5 dB for a reconstruction enlarged from 128 to 256, and without halos.
"""

import numpy as np
from PIL import Image
from PIL.Image import Resampling


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
    if squares.shape[-1] == size:
        return squares
    coverage = _filter((squares != 0).astype(np.float32), size, Resampling.BILINEAR)
    if size > squares.shape[-1]:
        values = np.clip(_filter(squares, size, Resampling.BICUBIC), *_range_of_nearest(squares, size))
    else:
        values = _filter(squares, size, Resampling.BILINEAR)
    # Tissue of both signs can average to 0, which would mean background.
    values[values == 0] = np.finfo(np.float32).tiny
    return np.where(coverage >= 0.5, values, np.float32(0))


def _filter(squares: np.ndarray, size: int, kernel: Resampling) -> np.ndarray:
    """Resize each square with Pillow; for shrinking, the kernel spans correspondingly more pixels."""
    resized = np.empty((*squares.shape[:-2], size, size), np.float32)
    for index in np.ndindex(squares.shape[:-2]):
        resized[index] = np.asarray(Image.fromarray(squares[index]).resize((size, size), kernel))
    return resized


def _range_of_nearest(squares: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Minimum and maximum of the four old pixels around each new one, (..., size, size) each."""
    before = squares.shape[-1]
    below = np.floor((np.arange(size) + 0.5) * (before / size) - 0.5).astype(int)
    first, second = (np.clip(places, 0, before - 1) for places in (below, below + 1))

    def extreme(of: np.ufunc) -> np.ndarray:
        rows = of(squares[..., first, :], squares[..., second, :])
        return of(rows[..., first], rows[..., second])

    return extreme(np.minimum), extreme(np.maximum)
