"""The map of the explorer's page, as a plotly figure of plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pti.latent_study.colors import SCALE, UNKNOWN, color_limits, palette
from pti.latent_study.latents import Latents
from pti.latent_study.options import ATTRIBUTES
from pti.latent_study.projection import Projection

_SYMBOLS = ("circle", "circle-open", "diamond", "square", "triangle-up", "triangle-down")
_GREY = "#7f8796"  # visible on a light and on a dark page
_GRID, _CLEAR = "rgba(127,135,150,0.2)", "rgba(0,0,0,0)"
_QUIET = {"hoverinfo": "skip", "showlegend": False}


def figure(
    latents: Latents,
    projection: Projection,
    color_by: str,
    clicked: Sequence[int] = (),
    selected: Sequence[int] | None = None,
    join_pairs: bool = False,
) -> dict[str, Any]:
    """Build the figure.

    Args:
        latents: Labels and attributes of the images.
        projection: Positions of the images.
        color_by: One of `pti.latent_study.options.COLORS`.
        clicked: Indices to mark by rings and join by a line.
        selected: Indices to highlight; None for all.
        join_pairs: Draw a line between the two images of each pair.
    """
    lines = [_pair_lines(projection, latents.pairs())] if join_pairs else []
    points = _points(latents, projection, color_by, selected)
    return {"data": [*lines, _rings(projection, clicked), *points], "layout": _layout(projection)}


def _points(
    latents: Latents, projection: Projection, color_by: str, selected: Sequence[int] | None
) -> list[dict[str, Any]]:
    colors, scale = _colors(latents, color_by)
    traces = []
    for number, group in enumerate(latents.groups):
        members = np.flatnonzero(latents.group == group)
        hollow = number == 1
        trace: dict[str, Any] = {
            **_trace(projection, members, "markers"),
            "name": f"{group} ({len(members)})",
            "customdata": members.tolist(),
            "text": [_hover_text(latents, index) for index in members.tolist()],
            "hovertemplate": "%{text}<extra></extra>",
            "marker": {
                **scale,
                "color": [colors[index] for index in members],
                "symbol": _SYMBOLS[number % len(_SYMBOLS)],
                "size": 9 if hollow else 8,
                "line": {"width": 1.8 if hollow else 0},
                "showscale": bool(scale) and number == 0,
            },
            "unselected": {"marker": {"opacity": 0.13}},
        }
        if selected is not None:
            trace["selectedpoints"] = np.flatnonzero(np.isin(members, selected)).tolist()
        traces.append(trace)
    return traces


def _colors(latents: Latents, color_by: str) -> tuple[list[Any], dict[str, Any]]:
    """Return the colour of each image, or its value of an attribute with the scale that applies to it."""
    if color_by not in ATTRIBUTES:
        colors = palette(latents, color_by)
        return [colors.get(label, UNKNOWN) for label in getattr(latents, color_by).tolist()], {}
    values = latents.attributes[color_by]
    low, high = color_limits(values)
    bar = {"title": {"text": ATTRIBUTES[color_by], "side": "right"}, "thickness": 12, "outlinewidth": 0}
    stops = list(map(list, zip(np.linspace(0, 1, len(SCALE)).tolist(), SCALE, strict=True)))
    known = [float(value) if np.isfinite(value) else None for value in values]
    return known, {"colorscale": stops, "cmin": low, "cmax": high, "colorbar": bar}


def _trace(projection: Projection, indices: Any, mode: str) -> dict[str, Any]:
    x, y = projection.points[np.asarray(indices, int)].T.tolist()
    return {"type": "scatter", "mode": mode, "x": x, "y": y}


def _rings(projection: Projection, clicked: Sequence[int]) -> dict[str, Any]:
    marker = {"symbol": "circle-open", "size": 18, "color": _GREY, "line": {"width": 2.5}}
    line = {"color": _GREY, "width": 1.2, "dash": "dot"}
    return {**_trace(projection, clicked, "lines+markers"), **_QUIET, "marker": marker, "line": line}


def _pair_lines(projection: Projection, pairs: np.ndarray) -> dict[str, Any]:
    ends = projection.points[pairs]
    x, y = ([point for pair in ends for point in (*pair[:, axis].tolist(), None)] for axis in (0, 1))
    line = {"color": _GREY, "width": 0.5}
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, **_QUIET, "line": line, "opacity": 0.4}


def _hover_text(latents: Latents, index: int) -> str:
    name = str(latents.name[index]).replace("&", "&amp;").replace("<", "&lt;")
    patient = f"patient {latents.patient[index]}" if latents.patient[index] else ""
    attributes = [
        f"{label}: {latents.attributes[key][index]:.4g}"
        for key, label in ATTRIBUTES.items()
        if np.isfinite(latents.attributes[key][index])
    ]
    return "<br>".join(
        [f"<b>{name}</b>", ", ".join(filter(None, (patient, latents.split[index]))), *attributes]
    )


def _layout(projection: Projection) -> dict[str, Any]:
    def axis(text: str) -> dict[str, Any]:
        title = {"text": text, "standoff": 6}
        return {"title": title, "zeroline": False, "automargin": True, "gridcolor": _GRID}

    return {
        "margin": {"l": 48, "r": 12, "t": 30, "b": 42},
        "paper_bgcolor": _CLEAR,
        "plot_bgcolor": _CLEAR,
        "font": {"family": "system-ui, sans-serif", "color": _GREY, "size": 12},
        "xaxis": axis(projection.axes[0]),
        "yaxis": axis(projection.axes[1]),
        "dragmode": "lasso",
        "hovermode": "closest",
        "hoverlabel": {"align": "left", "font": {"size": 12}},
        "modebar": {"bgcolor": _CLEAR, "color": _GREY, "activecolor": "#4a86e0"},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
        | {"itemclick": False, "itemdoubleclick": False},
        "uirevision": projection.method,
    }
