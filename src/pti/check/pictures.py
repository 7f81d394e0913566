"""Small pictures of raw images for the report: thumbnails and overlays."""

import numpy as np
from PIL import Image


def thumbnail(raw: np.ndarray, size: int) -> np.ndarray:
    """Reduce and normalise a raw image for display.

    Args:
        raw: (H, W) raw image, background 0.
        size: pixels along the longer axis, approximately; the reduction averages whole blocks.

    Returns:
        (h, w) float64 in [0, 1]; the background is 0 and the darkest tissue 0.1, so that it stands out.
    """
    step = max(1, round(max(raw.shape) / size))
    small = np.asarray(Image.fromarray(raw.astype(np.float32)).reduce(step))
    tissue = small[small != 0]
    if tissue.size == 0:
        return np.zeros(small.shape)
    low, high = (float(value) for value in np.percentile(tissue, (1, 99.5)))
    scaled = 0.1 + 0.9 * np.clip((small - low) / max(high - low, 1e-12), 0, 1)
    return np.where(small != 0, scaled, 0)


def overlay(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Overlay two thumbnails of one shape in orange and blue, grey where they agree; (h, w, 3) uint8."""
    mixed = np.stack((first, 0.5 * (first + second), second), -1)
    return np.round(mixed * 255).astype(np.uint8)
