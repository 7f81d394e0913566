"""Contact sheet of measured bones: each image with its outline and the lines along which it is measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pti.drawing.outlines import common_crop
from pti.drawing.panels import tissue_window

_ACROSS = 4  # panels in a row
_INCHES = 3.2  # width of a panel
_COLORS = ("#ffd166", "#4cc9f0", "#ff7096")
_OUTLINE = "#7bd389"


@dataclass(frozen=True)
class MeasuringLine:
    """A line over an image.

    Attributes:
        kind: Text in the legend; lines of one kind have one colour.
        label: Text beyond its end.
        start, end: (row, column): distances from the upper left corner of the image, pixels. One of the two
            is the same at both.
    """

    kind: str
    label: str
    start: tuple[float, float]
    end: tuple[float, float]


@dataclass(frozen=True)
class MeasuredPanel:
    """One image of the sheet.

    Attributes:
        title: Text above the image.
        raw: (H, W) raw image.
        mask: (H, W) bool, the bone.
        pixel_mm: Edge of a pixel, mm.
        lines: The measuring lines.
    """

    title: str
    raw: np.ndarray
    mask: np.ndarray
    pixel_mm: float
    lines: Sequence[MeasuringLine]


def measuring_sheet(path: Path, panels: Sequence[MeasuredPanel]) -> None:
    """Write a PNG of all panels with a legend.

    Args:
        path: The PNG file.
        panels: One or more.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(line.kind for panel in panels for line in panel.lines))
    colors = dict(zip(kinds, _COLORS, strict=False))
    across = min(_ACROSS, len(panels))
    down = -(-len(panels) // across)
    size = (_INCHES * max(2, across), 1.25 * _INCHES * down + 0.4)
    figure = Figure(figsize=size, facecolor="black", layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for axis in axes:
        axis.set_axis_off()
    for panel, axis in zip(panels, axes, strict=False):
        _draw(axis, panel, colors)
    handles = [axes[0].plot([], [], color=colors[kind], label=f"{kind}, mm")[0] for kind in kinds]
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=len(kinds), frameon=False)
    for text in legend.get_texts():
        text.set_color("0.85")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _draw(axis: Any, panel: MeasuredPanel, colors: Mapping[str, str]) -> None:
    """Draw one panel, cropped to the bone."""
    rows, columns = common_crop([panel.mask], margin=max(6, panel.mask.shape[1] // 12))
    height, width = panel.raw.shape
    black, white = tissue_window(panel.raw)
    axis.imshow(panel.raw, "gray", vmin=black, vmax=white, extent=(0, width, height, 0))
    padded = np.pad(panel.mask, 1).astype(float)
    centres = [np.arange(-1, length + 1) + 0.5 for length in (width, height)]
    axis.contour(*centres, padded, levels=[0.5], colors=_OUTLINE, linewidths=0.7)
    for line in panel.lines:
        color = colors[line.kind]
        axis.plot(*zip(line.start[::-1], line.end[::-1], strict=True), color=color, linewidth=1.0)
        down, right = (np.sign(end - start) for start, end in zip(line.start, line.end, strict=True))
        axis.annotate(
            line.label,
            line.end[::-1],
            (3 * right, -3 * down),
            textcoords="offset points",
            ha={-1: "right", 0: "center", 1: "left"}[right],
            va={-1: "bottom", 0: "center", 1: "top"}[down],
            color=color,
            fontsize=6.5,
        )
    axis.set_xlim(columns.start, columns.stop)
    axis.set_ylim(rows.stop, rows.start)
    axis.set_title(panel.title, color="0.75", fontsize=7)
