"""Draw transparent colours over pictures."""

import numpy as np


def tint(pixels: np.ndarray, opacity: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """Blend a colour into a picture.

    Args:
        pixels: (H, W, 3) uint8.
        opacity: (H, W) 0 to 1.
        color: Red, green and blue, 0 to 255.

    Returns:
        (H, W, 3) uint8.
    """
    share = np.asarray(opacity, np.float64)[..., None]
    return ((1 - share) * pixels + share * np.asarray(color)).round().astype(np.uint8)


def smooth_edge(distance: np.ndarray) -> np.ndarray:
    """Return the share of each pixel that lies inside an edge, 0 to 1: soft instead of jagged edges.

    Args:
        distance: (H, W) signed distance of the pixel's centre to the edge, pixels, positive outside.
    """
    return np.clip(0.5 - distance, 0, 1)
