"""Draw the pictures of a training run: images side by side, and curves of its metrics."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pti.drawing.panels import diverging, grey, tissue_window, titled_row

_SPLIT_COLORS = {"train": "#2a6fb0", "val": "#d9622b"}


@dataclass(frozen=True)
class Comparison:
    """Raw images to show side by side.

    Attributes:
        columns: Title -> (N, H, W) raw images, from left to right.
        captions: One caption for each of the N rows.
        difference: Titles (a, b) of two columns; b - a becomes the last column. None = no such column.
    """

    columns: Mapping[str, np.ndarray]
    captions: Sequence[str]
    difference: tuple[str, str] | None = None


def draw_comparison(comparison: Comparison) -> Image.Image:
    """Draw one row for each caption.

    All images of a row share the grey window of its first image's tissue, so that no row is black.
    Differences are blue below 0 and orange above, with one colour scale for all rows.
    """
    differences, limit = _differences(comparison)
    rows = []
    for index, caption in enumerate(comparison.captions):
        images = {title: column[index] for title, column in comparison.columns.items()}
        window = tissue_window(next(iter(images.values())))
        panels = [(title, grey(image, window)) for title, image in images.items()]
        color_bar = None
        if differences is not None:
            panels.append(("difference", diverging(differences[index], limit)))
            end = f"{float(f'{limit:.3g}'):g}"
            color_bar = (len(panels) - 1, f"-{end}", end)
        rows.append(np.asarray(titled_row(panels, caption, color_bar)))
    return Image.fromarray(np.concatenate(rows))


def _differences(comparison: Comparison) -> tuple[np.ndarray | None, float]:
    """Return (N, H, W) differences, and the 99.5th percentile of their absolute values in the tissue."""
    if comparison.difference is None:
        return None, 1.0
    first, second = (np.asarray(comparison.columns[name], np.float64) for name in comparison.difference)
    difference = second - first
    tissue = np.abs(difference[(first != 0) | (second != 0)])
    limit = float(np.percentile(tissue, 99.5)) if tissue.size else 0.0
    return difference, limit or 1.0


def draw_curves(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Write a PNG with one panel per metric: training and validation over epochs.

    Metrics whose names differ in a final number (``latent_std_0``, …) share a panel.

    Args:
        rows: One mapping per epoch, with ``epoch``, ``train/NAME`` and ``val/NAME``.
        path: The PNG file to write; without any metric, nothing is written.
    """
    from matplotlib.figure import Figure

    panels: dict[str, list[str]] = {}
    for key in dict.fromkeys(key for row in rows for key in row if "/" in key):
        panels.setdefault(re.sub(r"_\d+$", "", key.split("/", 1)[1]), []).append(key)
    if not panels:
        return
    across = min(4, math.ceil(math.sqrt(len(panels))))
    down = math.ceil(len(panels) / across)
    figure = Figure(figsize=(3.4 * across, 2.4 * down))
    figure.subplots_adjust(0.25 / across, 0.25 / down, 1 - 0.05 / across, 1 - 0.12 / down, 0.25, 0.4)
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for (title, keys), axis in zip(panels.items(), axes, strict=False):
        _draw_panel(axis, title, keys, rows)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    figure.supxlabel("epoch", fontsize=9, y=0.01, va="bottom")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _draw_panel(axis: Any, title: str, keys: Sequence[str], rows: Sequence[Mapping[str, float]]) -> None:
    from matplotlib.ticker import MaxNLocator

    several = len(keys) > 2
    for index, key in enumerate(keys):
        split, name = key.split("/", 1)
        points = [(row["epoch"] + 1, row[key]) for row in rows if key in row]
        color = f"C{index}" if several else _SPLIT_COLORS.get(split)
        label = name.removeprefix(f"{title}_") if several else split
        marker = "o" if len(points) < 20 else None
        axis.plot(*zip(*points, strict=True), color=color, label=label, marker=marker, markersize=3)
    values = [row[key] for row in rows for key in keys if key in row]
    if min(values) > 0 and max(values) > 50 * min(values):
        axis.set_yscale("log")
    elif max(values) - min(values) <= 1e-4 * max(map(abs, values)):  # no more than rounding
        reach = abs(values[0]) / 2 or 1
        axis.set_ylim(values[0] - reach, values[0] + reach)
    axis.set_title(title, fontsize=9, y=1)  # y: don't evade the exponent above the axis
    axis.tick_params(labelsize=7)
    axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axis.grid(alpha=0.25)
    axis.legend(fontsize=7, frameon=False, ncols=2 if several else 1)
