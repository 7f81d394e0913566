"""Draw bone outlines over a slice as SVG, with a scale bar in millimetres."""

from collections.abc import Mapping

import numpy as np
from markupsafe import Markup, escape

from pti.drawing.panels import data_uri, grey

Crop = tuple[slice, slice]


def common_crop(masks: list[np.ndarray], margin: int = 6) -> Crop:
    """Return the rows and columns that hold all masks (H, W) and a margin; everything if all are empty."""
    union = np.any(masks, axis=0)
    slices = []
    for axis in (0, 1):
        places = np.flatnonzero(union.any(axis=1 - axis))
        size = union.shape[axis]
        first, last = (places[0], places[-1] + 1) if places.size else (0, size)
        slices.append(slice(max(0, int(first) - margin), min(size, int(last) + margin)))
    return slices[0], slices[1]


def outlined(
    raw: np.ndarray,
    window: tuple[float, float],
    outlines: Mapping[str, np.ndarray],
    crop: Crop,
    label: str,
    scale: tuple[float, float] | None = None,
) -> Markup:
    """Draw a slice with outlines.

    Args:
        raw: (H, W) raw image.
        window: Raw values shown as black and white.
        outlines: CSS class -> (H, W) bool mask; drawn in this order.
        crop: The part of the slice to show.
        label: Accessible description of the picture.
        scale: Length of the scale bar in mm, and edge of a pixel in mm; None = no scale bar.
    """
    shown = raw[crop]
    height, width = shown.shape
    parts = [f'<image href="{data_uri(grey(shown, window))}" width="{width}" height="{height}"/>']
    parts += [
        f'<path class="outline {escape(name)}" d="{outline_path(mask[crop])}"/>'
        for name, mask in outlines.items()
    ]
    if scale is not None:
        length, pixel_mm = scale
        y, size = height - 3.0, max(6.0, height / 16)
        parts.append(f'<path class="scale-bar" d="M3 {y:.1f}h{length / pixel_mm:.2f}"/>')
        parts.append(f'<text x="3" y="{y - 2.5:.1f}" font-size="{size:.1f}">{length:g} mm</text>')
    return Markup(
        f'<svg class="slice" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def outline_path(mask: np.ndarray) -> str:
    """Trace the border of a mask (H, W) along its pixel edges, as an SVG path in pixels."""
    padded = np.pad(mask, 1).astype(np.int8)
    horizontal = np.diff(padded, axis=0)[:, 1:-1] != 0  # (H+1, W): an edge above row r
    vertical = np.diff(padded, axis=1)[1:-1] != 0  # (H, W+1): an edge left of column c
    path = [f"M{start} {row}h{length}" for row, start, length in _runs(horizontal)]
    path += [f"M{column} {start}v{length}" for column, start, length in _runs(vertical.T)]
    return "".join(path)


def _runs(edges: np.ndarray) -> list[tuple[int, int, int]]:
    """Find (line, start, length) of all runs of True along the lines."""
    change = np.diff(np.pad(edges, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    lines, starts = np.nonzero(change == 1)
    lengths = np.nonzero(change == -1)[1] - starts
    return list(zip(lines.tolist(), starts.tolist(), lengths.tolist(), strict=True))
