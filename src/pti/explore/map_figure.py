"""The map of the explorer's page, as a plotly figure of plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pti.latent_study.colors import SCALE, UNKNOWN, limits, palette
from pti.latent_study.latents import Latents
from pti.latent_study.names import ATTRIBUTES
from pti.latent_study.projection import Projection

SYMBOLS = ("circle", "circle-open", "diamond", "square", "triangle-up", "triangle-down")
_GREY = "#7f8796"  # seen on a light and on a dark page


def figure(
    latents: Latents,
    projection: Projection,
    color_by: str,
    chosen: Sequence[int] = (),
    found: Sequence[int] | None = None,
    join_pairs: bool = False,
) -> dict[str, Any]:
    """The figure.

    Args:
        latents: what is known of the images.
        projection: where they lie.
        color_by: one of `pti.latent_study.names.COLORS`.
        chosen: indices that get a ring, with a line between them.
        found: indices that stand out; None for all.
        join_pairs: draw a line between the two images of a pair.
    """
    lines = [_lines(projection, latents.pairs())] if join_pairs else []
    traces = [*lines, _rings(projection, chosen), *_points(latents, projection, color_by, found)]
    return {"data": traces, "layout": _layout(projection)}


def _points(
    latents: Latents, projection: Projection, color_by: str, found: Sequence[int] | None
) -> list[dict[str, Any]]:
    marker = _colors(latents, color_by)
    traces = []
    for number, group in enumerate(latents.groups):
        members = np.flatnonzero(latents.group == group)
        hollow = number == 1
        own = {key: [value[i] for i in members] if key == "color" else value for key, value in marker.items()}
        own |= {"symbol": SYMBOLS[number % len(SYMBOLS)], "size": 9 if hollow else 8}
        own["line"] = {"width": 1.8 if hollow else 0}
        own["showscale"] = color_by in ATTRIBUTES and number == 0
        trace: dict[str, Any] = {
            **_at(projection, members, "markers"),
            "name": f"{group} ({len(members)})",
            "customdata": members.tolist(),
            "text": [_told(latents, i) for i in members.tolist()],
            "hovertemplate": "%{text}<extra></extra>",
            "marker": own,
            "unselected": {"marker": {"opacity": 0.13}},
        }
        if found is not None:
            trace["selectedpoints"] = np.flatnonzero(np.isin(members, found)).tolist()
        traces.append(trace)
    return traces


def _colors(latents: Latents, color_by: str) -> dict[str, Any]:
    if color_by not in ATTRIBUTES:
        chosen = palette(latents, color_by)
        return {"color": [chosen.get(label, UNKNOWN) for label in getattr(latents, color_by).tolist()]}
    values = latents.attributes[color_by]
    low, high = limits(values)
    bar = {"title": {"text": ATTRIBUTES[color_by], "side": "right"}, "thickness": 12, "outlinewidth": 0}
    stops = [
        [place, color] for place, color in zip(np.linspace(0, 1, len(SCALE)).tolist(), SCALE, strict=True)
    ]
    known = [float(value) if np.isfinite(value) else None for value in values]
    return {"color": known, "colorscale": stops, "cmin": low, "cmax": high, "colorbar": bar}


def _at(projection: Projection, indices: Sequence[int] | np.ndarray, mode: str) -> dict[str, Any]:
    x, y = projection.points[np.asarray(indices, int)].T.tolist() if len(indices) else ([], [])
    return {"type": "scatter", "mode": mode, "x": x, "y": y}


def _rings(projection: Projection, chosen: Sequence[int]) -> dict[str, Any]:
    marker = {"symbol": "circle-open", "size": 18, "color": _GREY, "line": {"width": 2.5}}
    line = {"color": _GREY, "width": 1.2, "dash": "dot"}
    return {
        **_at(projection, chosen, "lines+markers"),
        "marker": marker,
        "line": line,
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _lines(projection: Projection, pairs: np.ndarray) -> dict[str, Any]:
    ends = projection.points[pairs]
    x, y = ([point for pair in ends for point in (*pair[:, axis].tolist(), None)] for axis in (0, 1))
    line = {"color": _GREY, "width": 0.5}
    quiet = {"hoverinfo": "skip", "showlegend": False, "opacity": 0.4}
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "line": line, **quiet}


def _told(latents: Latents, index: int) -> str:
    place = [f"patient {latents.patient[index]}" if latents.patient[index] else "", latents.split[index]]
    figures = [
        f"{label}: {latents.attributes[name][index]:.4g}"
        for name, label in ATTRIBUTES.items()
        if np.isfinite(latents.attributes[name][index])
    ]
    name = str(latents.name[index]).replace("&", "&amp;").replace("<", "&lt;")
    return "<br>".join([f"<b>{name}</b>", ", ".join(filter(None, place)), *figures])


def _layout(projection: Projection) -> dict[str, Any]:
    axes = [
        {"title": {"text": text, "standoff": 6}, "zeroline": False, "automargin": True}
        for text in projection.axes
    ]
    clear = "rgba(0,0,0,0)"
    return {
        "margin": {"l": 48, "r": 12, "t": 30, "b": 42},
        "paper_bgcolor": clear,
        "plot_bgcolor": clear,
        "font": {"family": "system-ui, sans-serif", "color": _GREY, "size": 12},
        "xaxis": axes[0] | {"gridcolor": "rgba(127,135,150,0.2)"},
        "yaxis": axes[1] | {"gridcolor": "rgba(127,135,150,0.2)"},
        "dragmode": "lasso",
        "hovermode": "closest",
        "hoverlabel": {"align": "left", "font": {"size": 12}},
        "modebar": {"bgcolor": clear, "color": _GREY, "activecolor": "#4a86e0"},
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1.02,
            "yanchor": "bottom",
            "itemclick": False,
            "itemdoubleclick": False,
        },
        "uirevision": projection.method,
    }
