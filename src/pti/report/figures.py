"""Pictures of a training run: images beside their reconstructions, and the curves of its metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pti.report.panels import diverging, grey, tissue_window, titled_row


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
        scale = (len(panels) - 1, f"{-limit:.3g}", f"{limit:.3g}") if differences is not None else None
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
    """Write a PNG with a panel for each metric of ``metrics.csv`` over the epochs, training beside
    validation.

    Args:
        rows: one mapping an epoch, with ``epoch``, ``train/NAME`` and ``val/NAME``.
        path: the PNG.
    """
    from matplotlib.figure import Figure

    names = dict.fromkeys(name.split("/", 1)[1] for row in rows for name in row if "/" in name)
    if not names:
        return
    across = min(4, math.ceil(math.sqrt(len(names))))
    down = math.ceil(len(names) / across)
    figure = Figure(figsize=(3.4 * across, 2.4 * down), layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for name, axis in zip(names, axes, strict=False):
        for side, color in (("train", "#2a6fb0"), ("val", "#d9622b")):
            points = [(row["epoch"] + 1, row[f"{side}/{name}"]) for row in rows if f"{side}/{name}" in row]
            if points:
                marker = "o" if len(points) < 20 else None
                axis.plot(*zip(*points, strict=True), color=color, label=side, marker=marker, markersize=3)
        values = [row[key] for row in rows for key in (f"train/{name}", f"val/{name}") if key in row]
        if min(values) > 0 and max(values) > 50 * min(values):
            axis.set_yscale("log")
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.25)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(fontsize=7, frameon=False)
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    figure.supxlabel("epoch", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
