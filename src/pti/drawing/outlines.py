"""Bone outlines over a slice, as SVG: crisp on a screen and on paper, with a scale in millimetres."""

from collections.abc import Mapping

import numpy as np
from markupsafe import Markup, escape

from pti.drawing.panels import data_uri, grey

Crop = tuple[slice, slice]


def common_crop(masks: list[np.ndarray], margin: int = 6) -> Crop:
    """Rows and columns that hold all masks (H, W) and a margin; everything when they are empty."""
    together = np.any(masks, axis=0)
    parts = []
    for axis in (1, 0):
        places = np.flatnonzero(together.any(axis=axis))
        size = together.shape[1 - axis]
        first, last = (places[0], places[-1] + 1) if places.size else (0, size)
        parts.append(slice(max(0, int(first) - margin), min(size, int(last) + margin)))
    return parts[0], parts[1]


def outlined(
    raw: np.ndarray,
    window: tuple[float, float],
    outlines: Mapping[str, np.ndarray],
    crop: Crop,
    label: str,
    scale: tuple[float, float] | None = None,
) -> Markup:
    """A slice with outlines.

    Args:
        raw: (H, W).
        window: raw values shown as black and white.
        outlines: CSS class -> (H, W) bool mask, drawn in this order.
        crop: what is shown of it.
        label: what it shows, for those who can't see it.
        scale: length of the scale bar in mm, and the edge of a pixel in mm; None = no bar.
    """
    shown = raw[crop]
    height, width = shown.shape
    parts = [f'<image href="{data_uri(grey(shown, window))}" width="{width}" height="{height}"/>']
    parts += [
        f'<path class="outline {escape(name)}" d="{outline_path(mask[crop])}"/>'
        for name, mask in outlines.items()
    ]
    if scale is not None:
        length = scale[0] / scale[1]
        y, size = height - 3.0, max(6.0, height / 16)
        parts.append(f'<path class="scale-bar" d="M3 {y:.1f}h{length:.2f}"/>')
        parts.append(f'<text x="3" y="{y - 2.5:.1f}" font-size="{size:.1f}">{scale[0]:g} mm</text>')
    return Markup(
        f'<svg class="slice" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def outline_path(mask: np.ndarray) -> str:
    """The border of a mask (H, W) along the edges of its pixels, as an SVG path in pixels."""
    padded = np.pad(mask, 1).astype(np.int8)
    across = np.diff(padded, axis=0)[:, 1:-1] != 0  # (H+1, W): an edge above row r
    down = np.diff(padded, axis=1)[1:-1] != 0  # (H, W+1): an edge left of column c
    path = [f"M{start} {row}h{length}" for row, start, length in _runs(across)]
    path += [f"M{column} {start}v{length}" for column, start, length in _runs(down.T)]
    return "".join(path)


def _runs(edges: np.ndarray) -> list[tuple[int, int, int]]:
    """(line, start, length) of all runs of True along the lines."""
    change = np.diff(np.pad(edges, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    lines, starts = np.nonzero(change == 1)
    _, ends = np.nonzero(change == -1)
    return [
        (int(line), int(start), int(end - start))
        for line, start, end in zip(lines, starts, ends, strict=True)
    ]
