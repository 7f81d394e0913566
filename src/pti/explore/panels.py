"""Parts of the explorer's page that depend on the clicked points: pictures, distances, walks, samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from dash import html

from pti.drawing.panels import data_uri, diverging, grey, tissue_window
from pti.explore.explorer import Explorer


def chosen_panel(explorer: Explorer, clicked: Sequence[int], difference_limit: float) -> list[Any]:
    """Show the last clicked image and its partner, each with reconstruction and difference, and distances."""
    if not clicked:
        return [html.H3("No image chosen"), _hint("Click a point to see its image.")]
    index, latents = clicked[-1], explorer.latents
    patient = f"patient {latents.patient[index]}" if latents.patient[index] else ""
    limit = f"±{difference_limit:.3g}"
    return [
        html.H3(str(latents.name[index])),
        html.P(", ".join(filter(None, (patient, str(latents.split[index])))), className="soft"),
        *(_compared(explorer, shown, difference_limit, shown == index) for shown in _pair(explorer, index)),
        html.P(
            f"Difference: blue where the reconstruction is darker, orange where it is brighter; full colour "
            f"at {limit}. Click a picture to enlarge it.",
            className="soft hint",
        ),
        _distance_table(explorer, clicked),
    ]


def walk_panel(explorer: Explorer, clicked: Sequence[int], along_pair: bool, steps: int) -> list[Any]:
    """Show images decoded along a line, with the height of their bone."""
    if not clicked:
        return [_hint("Click a point.")]
    ends = _pair(explorer, clicked[-1]) if along_pair else list(clicked)
    if len(ends) < 2 or ends[0] == ends[1]:
        return [_hint("This image has no partner." if along_pair else "Click a second point.")]
    frames = explorer.walk(ends[0], ends[1], steps)
    window = tissue_window(np.stack([frames[0], frames[-1]]))
    first, last = (str(explorer.latents.group[end]) for end in ends)
    titles = [first, *(f"{number / (steps - 1):.0%}" for number in range(1, steps - 1)), last]
    return [
        _measured(explorer, ends[0], frame, window, title)
        for frame, title in zip(frames, titles, strict=True)
    ]


def attribute_panel(explorer: Explorer, clicked: Sequence[int], measure: str, steps: int) -> list[Any]:
    """Show images decoded from the last clicked one along an attribute, with the height of their bone."""
    if not clicked:
        return [_hint("Click a point.")]
    if explorer.attributes is None or measure not in explorer.attributes.measures:
        return [_hint("This model has no such attribute.")]  # a browser may send anything
    index, moves = clicked[-1], np.linspace(-2, 2, steps)
    frames = explorer.attribute_walk(index, measure, moves)
    window = tissue_window(explorer.reconstruction(index))
    return [
        _measured(explorer, index, frame, window, f"{move:+.1f} SD")
        for frame, move in zip(frames, moves, strict=True)
    ]


def samples_panel(explorer: Explorer, clicked: Sequence[int], count: int, requested: bool) -> list[Any]:
    """Show samples for the dente image of the clicked pair, after the true edente image where it is known."""
    if not clicked:
        return [_hint("Click a point.")]
    condition, *targets = _pair(explorer, clicked[-1])
    if explorer.latents.group[condition] != explorer.latents.groups[0]:
        return [_hint("This pair has no dente image to start from.")]
    if not requested:
        return [_hint("Press Sample. On a CPU this takes some seconds.")]
    window = tissue_window(explorer.original((targets or [condition])[0]))
    truth = [_measured(explorer, index, explorer.original(index), window, "truth") for index in targets]
    return truth + [
        _measured(explorer, condition, raw, window, f"sample {number}")
        for number, raw in enumerate(explorer.samples(condition, count), 1)
    ]


def _pair(explorer: Explorer, index: int) -> list[int]:
    """Return the images of a pair, dente first; the image alone where it has no partner."""
    partner = explorer.partner(index)
    if partner is None:
        return [index]
    return sorted((index, partner), key=lambda i: str(explorer.latents.group[i]))


def _distance_table(explorer: Explorer, clicked: Sequence[int]) -> Any:
    """Show the distances to the partner and to the point clicked before."""
    index, rows = clicked[-1], []
    partner = explorer.partner(index)
    if partner is not None:
        rows.append(("within the pair", explorer.distance(index, partner)))
    if len(clicked) == 2 and clicked[0] != index:
        before = explorer.latents.name[clicked[0]]
        rows.append((f"to {before}, clicked before", explorer.distance(clicked[0], index)))
    if not rows:
        return html.Span()
    cells = [html.Tr([html.Td(what), html.Td(f"{value:.3f}", className="number")]) for what, value in rows]
    head = html.Thead(html.Tr(html.Th("Distance", colSpan=2)))
    return html.Table([head, html.Tbody(cells)], className="values", id="distances")


def _compared(explorer: Explorer, index: int, difference_limit: float, chosen: bool) -> Any:
    original, reconstruction = explorer.original(index), explorer.reconstruction(index)
    window = tissue_window(original)
    name, group = str(explorer.latents.name[index]), str(explorer.latents.group[index])
    difference = diverging(reconstruction - original, difference_limit)
    return html.Div(
        [
            _measured(explorer, index, original, window, group, name),
            _measured(explorer, index, reconstruction, window, "reconstruction", f"{name}, reconstruction"),
            _picture(difference, "difference", "", f"{name}, difference"),
        ],
        className="strip three chosen" if chosen else "strip three",
    )


def _measured(
    explorer: Explorer, index: int, raw: np.ndarray, window: tuple[float, float], title: str, name: str = ""
) -> Any:
    return _picture(grey(raw, window), title, f"{explorer.height_mm(index, raw):.1f} mm", name or title)


def _picture(pixels: np.ndarray, title: str, height: str, name: str) -> Any:
    # tabIndex lets a click focus the picture; the style sheet enlarges a focused one.
    image = html.Img(src=data_uri(pixels), alt=name, title=name, tabIndex=0)
    return html.Figure([image, html.Figcaption([html.B(title), html.Span(height)])])


def _hint(text: str) -> html.P:
    return html.P(text, className="soft")
