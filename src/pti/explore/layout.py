"""Layout of the explorer's page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dash import dcc, html

from pti.drawing.page import PACKAGE
from pti.explore.explorer import Explorer
from pti.latent_study.colors import palette
from pti.latent_study.options import ATTRIBUTES, LABELS, METHODS
from pti.latent_study.projection import Projection

PAIR, POINTS = "pair", "points"
ALONG = "along "
"""Beginning of the values of walks along an attribute; its measure follows."""
MAX_SAMPLES, MAX_FRAMES = 16, 15

_MAP_STYLE = {"height": "min(72vh, 720px)", "minHeight": "420px"}


@dataclass(frozen=True)
class Page:
    """Contents of the page.

    Attributes:
        explorer: The images and the module.
        projections: Projections by method; the page opens with the first.
        color_by: Initial colouring, one of `pti.latent_study.options.COLORS`.
        title: Title of the page.
        subtitle: Line below the title.
        difference_limit: Difference that gets the full colour, raw units.
    """

    explorer: Explorer
    projections: Mapping[str, Projection]
    color_by: str
    title: str
    subtitle: str
    difference_limit: float


def page_frame() -> str:
    """Return the HTML around Dash's content, including the style sheets."""
    files = (
        "drawing/templates/style.css",
        "latent_study/templates/atlas.css",
        "explore/templates/explore.css",
    )
    style = "\n".join((PACKAGE / name).read_text(encoding="utf-8") for name in files)
    frame = (PACKAGE / "explore/templates/explore.html").read_text(encoding="utf-8")
    return frame.replace("{%style%}", style)


def page_layout(page: Page) -> html.Main:
    """Build the page, with nothing clicked or selected."""
    colors = {**{label: label for label in LABELS}, **ATTRIBUTES}
    if not palette(page.explorer.latents, "split"):
        del colors["split"]
    methods = {name: METHODS[name] for name in page.projections}
    tools = html.Div(
        [
            _labelled("Projection", _dropdown("method", methods, next(iter(methods)))),
            _labelled("Colour", _dropdown("color", colors, page.color_by)),
            _labelled(
                "Search",
                dcc.Input(id="search", type="search", placeholder="patient or part of a name", debounce=0.3),
            ),
            dcc.Checklist({"join": "join pairs"}, [], id="join", className="inline"),
        ],
        className="tools",
    )
    samples = [_samples(page.explorer)] if page.explorer.translator else []
    return html.Main(
        [
            html.Header([html.H1(page.title), html.P(page.subtitle, className="soft")]),
            tools,
            html.Div([_map(), html.Div(_sidebar(), className="side")], className="study"),
            *samples,
            _walk(page.explorer),
            dcc.Store(id="clicked", data=[]),
            dcc.Store(id="selected"),
        ],
        className="wide",
    )


def _map() -> html.Section:
    config: Any = {"displaylogo": False, "responsive": True, "scrollZoom": True}
    config["modeBarButtons"] = [["lasso2d", "select2d", "pan2d", "zoom2d"], ["resetScale2d", "toImage"]]
    hint = (
        "Hover over a point for its name and bone. Click it to see its reconstruction. Draw a lasso or "
        "search to list names. Scroll to zoom."
    )
    graph = dcc.Graph(id="map", config=config, responsive=True, style=_MAP_STYLE)
    return html.Section([graph, html.P(hint, className="soft hint")], className="card map")


def _sidebar() -> list[Any]:
    names = dcc.Textarea(id="names", className="path", readOnly=True, rows=9, value="", placeholder=" ")
    copy = dcc.Clipboard(target_id="names", title="Copy names")
    return [
        html.Section(id="chosen", className="card", children=html.H3("No image chosen")),
        html.Section(
            [html.Div([html.H3("Nothing selected", id="count"), copy], className="head"), names],
            className="card",
        ),
    ]


def _walk(explorer: Explorer) -> html.Section:
    kinds = {PAIR: "from one image of the pair to the other", POINTS: "between the last two clicked points"}
    measures = () if explorer.attributes is None else explorer.attributes.measures
    kinds |= {f"{ALONG}{measure}": f"along {measure}" for measure in measures}
    frames = dcc.Input(id="frames", type="number", min=3, max=MAX_FRAMES, value=8, debounce=True)
    tools = [dcc.RadioItems(kinds, PAIR, id="walk", className="inline"), _labelled("Frames", frames)]
    return _strip_section("Walk through the latent space", tools, "frames-shown")


def _samples(explorer: Explorer) -> html.Section:
    initial = 1 if explorer.translator and explorer.translator.deterministic else 4
    count = dcc.Input(id="samples", type="number", min=1, max=MAX_SAMPLES, value=initial)
    tools = [_labelled("Samples", count), html.Button("Sample", id="sample", type="button")]
    return _strip_section("Predicted from the dente image", tools, "samples-shown")


def _strip_section(title: str, tools: list[Any], strip: str) -> html.Section:
    """Build a section with a strip of pictures, which a callback fills."""
    pictures = dcc.Loading(html.Div(id=strip, className="strip"), delay_show=300)
    return html.Section([html.H3(title), html.Div(tools, className="tools"), pictures], className="card")


def _dropdown(name: str, options: Mapping[str, str], value: str) -> dcc.Dropdown:
    return dcc.Dropdown(dict(options), value, id=name, clearable=False, searchable=False)


def _labelled(text: str, control: Any) -> html.Label:
    return html.Label([text, control])
