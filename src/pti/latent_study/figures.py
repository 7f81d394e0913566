"""``projection.png``: the latents of all images in the plane, as a figure for a paper."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pti.latent_study.colors import SCALE, UNKNOWN, color_limits, palette
from pti.latent_study.latents import Latents
from pti.latent_study.options import ATTRIBUTES
from pti.latent_study.projection import Projection

MAX_PATIENT_LABELS = 80
"""Number of patients above which the figure doesn't name them."""

_GREY = "#5d6779"
_MARKERS = ("o", "o", "D", "s", "^", "v")


@dataclass(frozen=True)
class FigureStyle:
    """Appearance of the figure.

    Attributes:
        color_by: One of `pti.latent_study.options.COLORS`.
        title: Title of the figure.
        subtitle: Line below the title; empty for none.
        join_pairs: Draw a line between the two images of each pair.
        dpi: Resolution, dots per inch.
    """

    color_by: str
    title: str
    subtitle: str = ""
    join_pairs: bool = False
    dpi: int = 300


def draw_projection(path: Path, latents: Latents, projection: Projection, style: FigureStyle) -> None:
    """Write the PNG: filled markers for the first group, hollow for the second, other shapes for the rest."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), layout="constrained")
    axis = figure.subplots()
    if style.join_pairs:
        _draw_pairs(axis, latents, projection)
    scale = _draw_points(axis, latents, projection, style.color_by)
    if scale is not None:
        bar = figure.colorbar(scale, ax=axis, shrink=0.7, aspect=30, extend="both")
        bar.set_label(ATTRIBUTES[style.color_by], fontsize=9)
        bar.ax.tick_params(labelsize=8)
    if style.color_by == "patient":
        _label_patients(axis, latents, projection)
    _style_axes(axis, projection, style)
    _draw_legend(figure, latents, style.color_by)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=style.dpi)


def _draw_points(axis: Any, latents: Latents, projection: Projection, color_by: str) -> Any:
    """Draw all images and return the colour scale of an attribute, None for labels."""
    colors, scale = _colors(latents, color_by)
    for index, group in enumerate(latents.groups):
        members = latents.group == group
        hollow = index == 1
        axis.scatter(
            *projection.points[members].T,
            s=20,
            marker=_marker(index),
            linewidths=0.9 if hollow else 0.3,
            facecolors="none" if hollow else colors[members],
            edgecolors=colors[members] if hollow else "white",
            zorder=2,
        )
    return scale


def _colors(latents: Latents, color_by: str) -> tuple[np.ndarray, Any]:
    """Return (N,) colours and, for an attribute, their scale."""
    if color_by not in ATTRIBUTES:
        colors = palette(latents, color_by)
        return np.array([colors.get(label, UNKNOWN) for label in getattr(latents, color_by)]), None
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize, to_hex

    values = latents.attributes[color_by]
    scale = ScalarMappable(Normalize(*color_limits(values)), LinearSegmentedColormap.from_list("bone", SCALE))
    known = zip(scale.to_rgba(values), np.isfinite(values), strict=True)
    return np.array([to_hex(tuple(color)) if finite else UNKNOWN for color, finite in known]), scale


def _draw_pairs(axis: Any, latents: Latents, projection: Projection) -> None:
    from matplotlib.collections import LineCollection

    ends = projection.points[latents.pairs()]
    axis.add_collection(LineCollection(list(ends), colors=_GREY, linewidths=0.4, alpha=0.25, zorder=1))


def _label_patients(axis: Any, latents: Latents, projection: Projection) -> None:
    from matplotlib.patheffects import withStroke

    colors = palette(latents, "patient")
    if len(colors) > MAX_PATIENT_LABELS:
        return
    for patient, color in colors.items():
        for group in latents.groups:
            points = projection.points[(latents.patient == patient) & (latents.group == group)]
            if len(points):
                axis.annotate(
                    patient,
                    np.median(points, axis=0),
                    (5, 5),
                    textcoords="offset points",
                    fontsize=6,
                    color=color,
                    path_effects=[withStroke(linewidth=1.5, foreground="white")],
                    zorder=3,
                )


def _style_axes(axis: Any, projection: Projection, style: FigureStyle) -> None:
    axis.set_title(style.title, loc="left", fontsize=13, fontweight="bold", pad=24 if style.subtitle else 8)
    axis.text(0, 1.015, style.subtitle, transform=axis.transAxes, fontsize=9, color=_GREY, va="bottom")
    axis.set_xlabel(projection.axes[0], fontsize=9)
    axis.set_ylabel(projection.axes[1], fontsize=9)
    axis.margins(0.06)
    axis.grid(alpha=0.2, linewidth=0.5)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)


def _draw_legend(figure: Any, latents: Latents, color_by: str) -> None:
    from matplotlib.lines import Line2D

    def handle(label: str, color: str, index: int) -> Any:
        fill = "none" if index == 1 else color
        style: dict[str, Any] = {"marker": _marker(index), "markerfacecolor": fill, "markeredgecolor": color}
        return Line2D([], [], linestyle="none", label=label, **style)

    colors = palette(latents, "group") if color_by == "group" else {}
    handles = [
        handle(f"{group} ({np.count_nonzero(latents.group == group)})", colors.get(group, _GREY), index)
        for index, group in enumerate(latents.groups)
    ]
    if color_by == "split":
        handles += [handle(label, color, 0) for label, color in palette(latents, "split").items()]
    ncols = min(5, len(handles))
    figure.legend(handles=handles, loc="outside lower center", ncols=ncols, frameon=False, fontsize=9)


def _marker(index: int) -> str:
    return _MARKERS[index % len(_MARKERS)]
