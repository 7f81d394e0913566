"""How the explorer's page is laid out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dash import dcc, html

from pti.drawing.page import PACKAGE
from pti.explore.explorer import Explorer
from pti.latent_study.colors import palette
from pti.latent_study.names import ATTRIBUTES, METHODS
from pti.latent_study.projection import Projection

PAIR, POINTS = "pair", "points"
MOST_SAMPLES, MOST_FRAMES = 16, 15

_TALL = {"height": "min(72vh, 720px)", "minHeight": "420px"}


@dataclass(frozen=True)
class Page:
    """What the page shows.

    Attributes:
        explorer: answers for the images.
        projections: by method, the one shown first in front.
        color_by: one of `pti.latent_study.names.COLORS`.
        title: of the page.
        subtitle: below it.
        difference_limit: raw units, the difference that gets the full colour.
    """

    explorer: Explorer
    projections: Mapping[str, Projection]
    color_by: str
    title: str
    subtitle: str
    difference_limit: float


def page_frame() -> str:
    """The page around what Dash draws, with its style inside."""
    files = (
        "drawing/templates/style.css",
        "latent_study/templates/atlas.css",
        "explore/templates/explore.css",
    )
    style = "\n".join((PACKAGE / name).read_text(encoding="utf-8") for name in files)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n{%metas%}\n<title>{%title%}</title>\n'
        '<link rel="icon" href="data:,">\n{%css%}\n<style>\n'
        + style
        + "\n</style>\n</head>\n<body>\n{%app_entry%}\n<footer hidden>\n{%config%}\n{%scripts%}\n"
        "{%renderer%}\n</footer>\n</body>\n</html>\n"
    )


def page_layout(page: Page) -> html.Main:
    """Everything on the page, with nothing chosen."""
    latents = page.explorer.latents
    colors = {"group": "group", "patient": "patient", "split": "split", **ATTRIBUTES}
    if not palette(latents, "split"):
        del colors["split"]
    methods = {name: METHODS[name] for name in page.projections}
    tools = html.Div(
        [
            _labelled("Projection", _choice("method", methods, next(iter(methods)))),
            _labelled("Colour", _choice("color", colors, page.color_by)),
            _labelled(
                "Search",
                dcc.Input(id="search", type="search", placeholder="patient or part of a name", debounce=0.3),
            ),
            dcc.Checklist({"join": "join pairs"}, [], id="join", className="inline"),
        ],
        className="tools",
    )
    config: Any = {"displaylogo": False, "responsive": True, "scrollZoom": True}
    config["modeBarButtons"] = [["lasso2d", "select2d", "pan2d", "zoom2d"], ["resetScale2d", "toImage"]]
    hint = "Hover: name, bone. Click: reconstruction, difference. Lasso, search: names. Wheel: zoom."
    the_map = html.Section(
        [
            dcc.Graph(id="map", config=config, responsive=True, style=_TALL),
            html.P(hint, className="soft hint"),
        ],
        className="card map",
    )
    return html.Main(
        [
            html.Header([html.H1(page.title), html.P(page.subtitle, className="soft")]),
            tools,
            html.Div([the_map, html.Div(_side(), className="side")], className="study"),
            *_below(page),
            dcc.Store(id="clicked", data=[]),
            dcc.Store(id="found"),
        ],
        className="wide",
    )


def _side() -> list[Any]:
    names = dcc.Textarea(id="names", className="path", readOnly=True, rows=9, value="", placeholder=" ")
    return [
        html.Section(id="chosen", className="card", children=html.H3("No image chosen")),
        html.Section(
            [
                html.Div(
                    [
                        html.H3("Nothing selected", id="count"),
                        dcc.Clipboard(target_id="names", title="Copy names"),
                    ],
                    className="head",
                ),
                names,
            ],
            className="card",
        ),
    ]


def _below(page: Page) -> list[Any]:
    walks = {PAIR: "from one image of the pair to the other", POINTS: "between the last two clicked points"}
    walk = html.Section(
        [
            html.H3("Walk through the latents"),
            html.Div(
                [
                    dcc.RadioItems(walks, PAIR, id="walk", className="inline"),
                    _labelled(
                        "Frames",
                        dcc.Input(id="frames", type="number", min=3, max=MOST_FRAMES, value=8, debounce=True),
                    ),
                ],
                className="tools",
            ),
            dcc.Loading(html.Div(id="frames-shown", className="strip"), delay_show=300),
        ],
        className="card",
    )
    if not page.explorer.has_samples:
        return [walk]
    many = not getattr(page.explorer.module, "deterministic", False)
    count = _labelled(
        "Samples", dcc.Input(id="samples", type="number", min=1, max=MOST_SAMPLES, value=4 if many else 1)
    )
    samples = html.Section(
        [
            html.H3("Predicted from the dente image"),
            html.Div([count, html.Button("Sample", id="sample", type="button")], className="tools"),
            dcc.Loading(html.Div(id="samples-shown", className="strip"), delay_show=300),
        ],
        className="card",
    )
    return [samples, walk]


def _choice(name: str, options: Mapping[str, str], value: str) -> dcc.Dropdown:
    return dcc.Dropdown(dict(options), value, id=name, clearable=False, searchable=False)


def _labelled(text: str, control: Any) -> html.Label:
    return html.Label([text, control])
