"""Contact sheet of image pairs: dente above edente on a dark background."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

TISSUE_PERCENTILES = (5.0, 99.0)


def display_window(images: Sequence[np.ndarray]) -> tuple[float, float]:
    """Choose a grey window (black, white) for raw images from percentiles of their common tissue.

    Black lies slightly below dark tissue, so that marrow differs visibly from background.

    Args:
        images: raw images (H, W), background 0.

    Returns:
        Raw values of black and white; (0, 1) without tissue.
    """
    tissue = np.concatenate([image[image != 0] for image in images])
    if tissue.size == 0:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(tissue, TISSUE_PERCENTILES))
    return low - 0.15 * (high - low), high if high > low else low + 1


def contact_sheet(
    path: Path, pairs: Sequence[tuple[str, np.ndarray, np.ndarray]], pixel_mm: float, scale_mm: int = 10
) -> None:
    """Write a PNG with one column for each pair and a scale bar; margins empty in all images are cropped.

    Args:
        path: the PNG file.
        pairs: title, dente and edente of each pair; raw images of one size.
        pixel_mm: pixel size, mm.
        scale_mm: length of the scale bar, mm.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    images = [image for _, *both in pairs for image in both]
    black, white = display_window(images)
    rows, columns = _tissue_box(images)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    figure = Figure(
        figsize=(2 * len(pairs), 4 * height / width + 0.3), facecolor="black", layout="constrained"
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(pairs), squeeze=False)
    for column, (title, *both) in enumerate(pairs):
        for axis, image in zip(axes[:, column], both, strict=True):
            grey = np.where(image == 0, black, image)[rows, columns]
            axis.imshow(grey, cmap="gray", vmin=black, vmax=white, interpolation="lanczos")
            axis.set_axis_off()
        axes[0, column].set_title(title, color="0.75", fontsize=7)
    x, y = 0.04 * width, 0.97 * height
    axes[1, 0].autoscale(False)
    axes[1, 0].plot([x, x + scale_mm / pixel_mm], [y, y], color="white", linewidth=1.5)
    axes[1, 0].text(x, y - 0.015 * height, f"{scale_mm} mm", color="white", fontsize=7, va="bottom")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _tissue_box(images: Sequence[np.ndarray], margin: float = 0.02) -> tuple[slice, slice]:
    """Find the rows and columns that hold the tissue of all images, plus a margin."""
    tissue = np.any([image != 0 for image in images], axis=0)
    box = []
    for axis in (1, 0):
        occupied = np.flatnonzero(tissue.any(axis=axis))
        size = tissue.shape[1 - axis]
        pad = max(1, round(margin * size))
        first, last = (occupied[0], occupied[-1]) if occupied.size else (0, size)
        box.append(slice(max(0, first - pad), min(size, last + 1 + pad)))
    return box[0], box[1]
