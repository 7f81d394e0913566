"""The explorer's answers as parts of its page: pictures of the chosen image, walks, samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from dash import html

from pti.drawing.panels import data_uri, diverging, grey, tissue_window
from pti.explore.explorer import Explorer


def chosen_panel(explorer: Explorer, clicked: Sequence[int], limit: float) -> list[Any]:
    """The last clicked image and the other one of its pair, each with reconstruction and difference."""
    if not clicked:
        return [html.H3("No image chosen"), html.P("Click a point to see its image.", className="soft")]
    index, latents = clicked[-1], explorer.latents
    owner = ", ".join(filter(None, [_patient(explorer, index), str(latents.split[index])]))
    rows = [_compared(explorer, shown, limit, shown == index) for shown in pair_of_index(explorer, index)]
    colours = (
        f"Difference: blue darker, orange brighter than the image; full colour at ±{limit:.3g}. "
        "A click on a picture enlarges it."
    )
    return [
        html.H3(str(latents.name[index])),
        html.P(owner, className="soft"),
        *rows,
        html.P(colours, className="soft hint"),
    ]


def distance_text(explorer: Explorer, clicked: Sequence[int]) -> Any:
    """The distances in words: within the pair, and to the point clicked before."""
    if not clicked:
        return html.Span()
    index, latents = clicked[-1], explorer.latents
    rows = []
    pair = pair_of_index(explorer, index)
    if len(pair) == 2:
        rows.append(("within the pair", explorer.distance(*pair)))
    if len(clicked) == 2 and clicked[0] != clicked[1]:
        rows.append((f"to {latents.name[clicked[0]]}, clicked before", explorer.distance(clicked[0], index)))
    cells = [html.Tr([html.Td(what), html.Td(f"{value:.3f}", className="number")]) for what, value in rows]
    if not cells:
        return html.Span()
    return html.Table(
        [html.Thead(html.Tr(html.Th("Distance", colSpan=2))), html.Tbody(cells)],
        className="figures",
        id="distances",
    )


def walk_panel(explorer: Explorer, clicked: Sequence[int], along_pair: bool, steps: int) -> list[Any]:
    """Decoded images along a line, with the height of their bone."""
    if not clicked:
        return [html.P("Click a point.", className="soft")]
    ends = pair_of_index(explorer, clicked[-1]) if along_pair else list(clicked)
    if len(ends) < 2 or ends[0] == ends[1]:
        missing = "This image has no other one in its pair." if along_pair else "Click a second point."
        return [html.P(missing, className="soft")]
    frames = explorer.walk(ends[0], ends[1], steps)
    window = tissue_window(np.stack([frames[0], frames[-1]])) if frames[0].shape == frames[-1].shape else None
    last = len(frames) - 1
    names = {0: str(explorer.latents.group[ends[0]]), last: str(explorer.latents.group[ends[1]])}
    return [
        _picture(
            grey(frame, window or tissue_window(frame)),
            names.get(number, f"{number / last:.0%}"),
            f"{explorer.height_mm(ends[0], frame):.1f} mm",
        )
        for number, frame in enumerate(frames)
    ]


def samples_panel(explorer: Explorer, clicked: Sequence[int], count: int, asked: bool) -> list[Any]:
    """Samples for the dente image of the clicked pair, beside the true edente image where there is one."""
    if not clicked:
        return [html.P("Click a point.", className="soft")]
    pair = pair_of_index(explorer, clicked[-1])
    condition = pair[0]
    if explorer.latents.group[condition] != explorer.latents.groups[0]:
        return [html.P("This pair has no image to start from.", className="soft")]
    if not asked:
        return [html.P("Press Sample: on a CPU it takes some seconds.", className="soft")]
    truths = [explorer.original(index) for index in pair[1:]]
    window = tissue_window(truths[0] if truths else explorer.original(condition))
    shown = [_measured(explorer, pair[1], truth, window, "truth") for truth in truths]
    found = explorer.samples(condition, count)
    return shown + [
        _measured(explorer, condition, raw, window, f"sample {number + 1}")
        for number, raw in enumerate(found)
    ]


def pair_of_index(explorer: Explorer, index: int) -> list[int]:
    """The images of the pair that an image belongs to, dente first; the image alone where it has none."""
    pairs = explorer.latents.pairs()
    found = pairs[(pairs == index).any(axis=1)]
    return found[0].tolist() if len(found) else [index]


def _compared(explorer: Explorer, index: int, limit: float, chosen: bool) -> Any:
    original, reconstruction = explorer.original(index), explorer.reconstruction(index)
    window = tissue_window(original)
    heights = [explorer.height_mm(index, raw) for raw in (original, reconstruction)]
    name = str(explorer.latents.name[index])
    return html.Div(
        [
            _picture(
                grey(original, window), f"{explorer.latents.group[index]}", f"{heights[0]:.1f} mm", name
            ),
            _picture(
                grey(reconstruction, window),
                "reconstruction",
                f"{heights[1]:.1f} mm",
                f"{name}, reconstruction",
            ),
            _picture(diverging(reconstruction - original, limit), "difference", "", f"{name}, difference"),
        ],
        className="strip three chosen" if chosen else "strip three",
    )


def _measured(
    explorer: Explorer, index: int, raw: np.ndarray, window: tuple[float, float], title: str
) -> Any:
    return _picture(grey(raw, window), title, f"{explorer.height_mm(index, raw):.1f} mm")


def _picture(pixels: np.ndarray, title: str, figure: str, name: str | None = None) -> Any:
    # With a place in the tab order a click gives it the focus, and with that its full size.
    image = html.Img(src=data_uri(pixels), alt=name or title, title=name or title, tabIndex=0)
    return html.Figure([image, html.Figcaption([html.B(title), html.Span(figure)])])


def _patient(explorer: Explorer, index: int) -> str:
    patient = str(explorer.latents.patient[index])
    return f"patient {patient}" if patient else ""
