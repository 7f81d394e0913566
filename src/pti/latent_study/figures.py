"""``projection.png``: the latents of all images in one plane, for a paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pti.latent_study.colors import SCALE, UNKNOWN, limits, palette
from pti.latent_study.latents import Latents
from pti.latent_study.names import ATTRIBUTES
from pti.latent_study.projection import Projection

MOST_LABELLED = 80
"""Patients up to which their names stand beside their points."""

_GREY = "#5d6779"
_MARKS = ("o", "o", "D", "s", "^", "v")


@dataclass(frozen=True)
class Look:
    """How the picture is drawn.

    Attributes:
        color_by: one of `pti.latent_study.names.COLORS`.
        title: above it.
        subtitle: below the title; empty for none.
        join_pairs: draw a line between the two images of a pair.
        dpi: dots an inch.
    """

    color_by: str
    title: str
    subtitle: str = ""
    join_pairs: bool = False
    dpi: int = 300


def draw_projection(path: Path, latents: Latents, projection: Projection, look: Look) -> None:
    """Write the PNG: the first group filled, the second hollow, further ones by other marks; a legend."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), layout="constrained")
    axis = figure.subplots()
    if look.join_pairs:
        _draw_pairs(axis, latents, projection)
    shown = _draw_points(axis, latents, projection, look.color_by)
    if shown is not None:
        bar = figure.colorbar(shown, ax=axis, shrink=0.7, aspect=30, extend="both")
        bar.set_label(ATTRIBUTES[look.color_by], fontsize=9)
        bar.ax.tick_params(labelsize=8)
    if look.color_by == "patient":
        _name_patients(axis, latents, projection)
    _label(axis, projection, look)
    _legend(figure, latents, look.color_by)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=look.dpi)


def _draw_points(axis: Any, latents: Latents, projection: Projection, color_by: str) -> Any:
    """Draw all images; returns what a scale of colours belongs to, None for labels."""
    colors, scale = _colors(latents, color_by)
    for index, group in enumerate(latents.groups):
        members = latents.group == group
        hollow = index == 1
        axis.scatter(
            *projection.points[members].T,
            s=20,
            marker=_mark(index),
            linewidths=0.9 if hollow else 0.3,
            facecolors="none" if hollow else colors[members],
            edgecolors=colors[members] if hollow else "white",
            zorder=2,
        )
    return scale


def _colors(latents: Latents, color_by: str) -> tuple[np.ndarray, Any]:
    """(N,) colours, and the scale that they come from."""
    if color_by not in ATTRIBUTES:
        chosen = palette(latents, color_by)
        return np.array([chosen.get(label, UNKNOWN) for label in getattr(latents, color_by)]), None
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize, to_hex

    values = latents.attributes[color_by]
    scale = ScalarMappable(Normalize(*limits(values)), LinearSegmentedColormap.from_list("bone", SCALE))
    colors = [
        to_hex(tuple(color)) if known else UNKNOWN
        for color, known in zip(scale.to_rgba(values), np.isfinite(values), strict=True)
    ]
    return np.array(colors), scale


def _draw_pairs(axis: Any, latents: Latents, projection: Projection) -> None:
    from matplotlib.collections import LineCollection

    ends = projection.points[latents.pairs()]
    axis.add_collection(LineCollection(list(ends), colors=_GREY, linewidths=0.4, alpha=0.25, zorder=1))


def _name_patients(axis: Any, latents: Latents, projection: Projection) -> None:
    from matplotlib.patheffects import withStroke

    colors = palette(latents, "patient")
    if len(colors) > MOST_LABELLED:
        return
    for patient, color in colors.items():
        for group in latents.groups:
            own = projection.points[(latents.patient == patient) & (latents.group == group)]
            if len(own):
                axis.annotate(
                    patient,
                    np.median(own, axis=0),
                    (5, 5),
                    textcoords="offset points",
                    fontsize=6,
                    color=color,
                    path_effects=[withStroke(linewidth=1.5, foreground="white")],
                    zorder=3,
                )


def _label(axis: Any, projection: Projection, look: Look) -> None:
    axis.set_title(look.title, loc="left", fontsize=13, fontweight="bold", pad=24 if look.subtitle else 8)
    if look.subtitle:
        axis.text(0, 1.015, look.subtitle, transform=axis.transAxes, fontsize=9, color=_GREY, va="bottom")
    axis.set_xlabel(projection.axes[0], fontsize=9)
    axis.set_ylabel(projection.axes[1], fontsize=9)
    axis.margins(0.06)
    axis.grid(alpha=0.2, linewidth=0.5)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)


def _legend(figure: Any, latents: Latents, color_by: str) -> None:
    from matplotlib.lines import Line2D

    colors: Mapping[str, str] = palette(latents, "group") if color_by == "group" else {}

    def handle(label: str, color: str, index: int) -> Any:
        fill = "none" if index == 1 else color
        style: dict[str, Any] = {"marker": _mark(index), "markerfacecolor": fill, "markeredgecolor": color}
        return Line2D([], [], linestyle="none", label=label, **style)

    handles = [
        handle(f"{group} ({np.count_nonzero(latents.group == group)})", colors.get(group, _GREY), index)
        for index, group in enumerate(latents.groups)
    ]
    if color_by == "split":
        handles += [handle(label, color, 0) for label, color in palette(latents, "split").items()]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(5, len(handles)), frameon=False, fontsize=9
    )


def _mark(index: int) -> str:
    return _MARKS[index % len(_MARKS)]
