"""Background of raw images, which has to be exactly 0."""

import numpy as np

NOISE = 0.02
"""Border values and their interquartile range, as a fraction of the tissue's range.

Fainter borders are unclean background, not tissue. Set on the phantom.
"""


def measure_background(pixels: np.ndarray) -> float:
    """Return the background of a raw image (H, W); see `background_value`."""
    tissue = pixels[pixels != 0]
    low, high = np.percentile(tissue[:: max(1, tissue.size // 4096)], (2, 98)) if tissue.size else (0, 0)
    return background_value(pixels, float(high - low))


def background_value(pixels: np.ndarray, tissue_range: float) -> float:
    """Return the background of a raw image (H, W), measured on its outermost rows and columns.

    Args:
        pixels: (H, W), any unit.
        tissue_range: Width of the interval that contains the tissue, in the same unit.

    Returns:
        The value of most of the border, or the centre of values that hardly differ; NaN for faint noise
        around 0; 0 if the border varies like tissue.
    """
    border = np.concatenate((pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]))
    values, counts = np.unique(border, return_counts=True)
    if counts.max() > border.size / 2:
        return float(values[counts.argmax()])
    low, middle, high = np.percentile(border, (25, 50, 75))
    limit = NOISE * tissue_range
    if high - low >= limit:
        return 0.0
    return np.nan if abs(middle) < limit else float(middle)
