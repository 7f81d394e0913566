"""Pictures of a training run: images beside their reconstructions, and the curves of its metrics."""

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

_COLORS = {"train": "#2a6fb0", "val": "#d9622b"}


@dataclass(frozen=True)
class Comparison:
    """Raw images of the same things side by side.

    Attributes:
        columns: title -> (N, H, W) raw images, from left to right.
        captions: what each of the N rows shows.
        difference: titles (a, b) of two columns; b - a is shown as a last column. None = no such column.
    """

    columns: Mapping[str, np.ndarray]
    captions: Sequence[str]
    difference: tuple[str, str] | None = None


def draw_comparison(comparison: Comparison) -> Image.Image:
    """One row an item, all columns of a row in one window of grey.

    The window comes from the tissue of the first column, so that it is never black; the difference is shown
    in two colours around 0, on one scale for all rows, with the scale below.
    """
    differences, limit = _differences(comparison)
    rows = []
    for index, caption in enumerate(comparison.captions):
        images = {title: column[index] for title, column in comparison.columns.items()}
        window = tissue_window(next(iter(images.values())))
        panels = [(title, grey(image, window)) for title, image in images.items()]
        if differences is not None:
            panels.append(("difference", diverging(differences[index], limit)))
        shown = f"{float(f'{limit:.3g}'):g}"
        scale = (len(panels) - 1, f"-{shown}", shown) if differences is not None else None
        rows.append(titled_row(panels, caption, scale))
    sheet = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)))
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def _differences(comparison: Comparison) -> tuple[np.ndarray | None, float]:
    """(N, H, W) differences, and the value that gets the full colour: 99.5 % of them are smaller."""
    if comparison.difference is None:
        return None, 1.0
    first, second = (np.asarray(comparison.columns[name], np.float64) for name in comparison.difference)
    found = second - first
    tissue = np.abs(found[(first != 0) | (second != 0)])
    limit = float(np.percentile(tissue, 99.5)) if tissue.size else 0.0
    return found, limit or 1.0


def draw_curves(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Write a PNG with a panel for each metric of ``metrics.csv``: training beside validation, by epoch.

    Metrics whose names differ by a number at the end (``latent_std_0``, …) share a panel.

    Args:
        rows: one mapping an epoch, with ``epoch``, ``train/NAME`` and ``val/NAME``.
        path: the PNG.
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
        side, name = key.split("/", 1)
        points = [(row["epoch"] + 1, row[key]) for row in rows if key in row]
        color = f"C{index}" if several else _COLORS.get(side)
        label = name.removeprefix(f"{title}_") if several else side
        marker = "o" if len(points) < 20 else None
        axis.plot(*zip(*points, strict=True), color=color, label=label, marker=marker, markersize=3)
    values = [row[key] for row in rows for key in keys if key in row]
    if min(values) > 0 and max(values) > 50 * min(values):
        axis.set_yscale("log")
    axis.set_title(title, fontsize=9)
    axis.tick_params(labelsize=7)
    axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axis.grid(alpha=0.25)
    axis.legend(fontsize=7, frameon=False, ncols=2 if several else 1)
