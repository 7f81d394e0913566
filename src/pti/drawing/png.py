"""Small pictures for reports: an array as a PNG inside the page, without a plotting library."""

import base64
import struct
import zlib

import numpy as np


def encode_png(image: np.ndarray) -> bytes:
    """A PNG file.

    Args:
        image: (H, W) grey or (H, W, 3) red, green, blue; uint8.
    """
    height, width = image.shape[:2]
    colour = 0 if image.ndim == 2 else 2
    rows = np.concatenate(
        (np.zeros((height, 1), np.uint8), image.reshape(height, -1)), 1
    )  # filter 0: as it is

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    data = zlib.compress(rows.tobytes(), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def data_uri(image: np.ndarray) -> str:
    """The picture as the ``src`` of an ``<img>``; arguments as :func:`encode_png`."""
    return "data:image/png;base64," + base64.b64encode(encode_png(image)).decode()


def display(pixels: np.ndarray, side: int) -> np.ndarray:
    """A raw image as one would look at it.

    Args:
        pixels: (H, W) raw.
        side: the longer side is reduced to about this many pixels, by averaging blocks.

    Returns:
        (h, w) float32 in [0, 1]: the 1st percentile of the tissue and below is dark, not black; background
        is 0.
    """
    step = max(1, round(max(pixels.shape) / side))
    height, width = (length // step * step for length in pixels.shape)
    small = pixels[:height, :width].reshape(height // step, step, width // step, step).mean((1, 3))
    tissue = small[small != 0]
    if tissue.size == 0:
        return np.zeros(small.shape, np.float32)
    low, high = np.percentile(tissue, (1, 99.5))
    scaled = 0.1 + 0.9 * np.clip((small - low) / max(high - low, 1e-12), 0, 1)
    return np.where(small != 0, scaled, 0).astype(np.float32)


def grey(shown: np.ndarray) -> np.ndarray:
    """[0, 1] to uint8."""
    return np.round(shown * 255).astype(np.uint8)


def overlay(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Two displayed images of one shape as (H, W, 3) uint8: orange and blue, grey where they agree."""
    mixed = np.stack((first, 0.5 * (first + second), second), -1)
    return np.round(mixed * 255).astype(np.uint8)
