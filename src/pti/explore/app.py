"""The explorer's page: a map of all images; what one clicks is decoded, compared and walked through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash
import numpy as np
from dash import Input, Output, State

from pti.explore.explorer import Explorer
from pti.explore.layout import MOST_FRAMES, MOST_SAMPLES, PAIR, Page, page_frame, page_layout
from pti.explore.map_figure import figure
from pti.explore.panels import chosen_panel, distance_text, samples_panel, walk_panel


def build_app(page: Page) -> dash.Dash:
    """The Dash application: serves its own page and libraries, and answers about the page's images alone."""
    app = dash.Dash(
        __name__,
        title=page.title,
        update_title="",
        # A folder that isn't there: no file is ever served. Left empty it would mean this package's own.
        include_assets_files=False,
        assets_folder="no_assets",
        pages_folder="",
        use_pages=False,
        serve_locally=True,
        enable_mcp=False,
        index_string=page_frame(),
    )
    app.layout = page_layout(page)
    _add_map(app, page)
    _add_answers(app, page)
    return app


def _add_map(app: dash.Dash, page: Page) -> None:
    latents = page.explorer.latents

    @app.callback(
        Output("map", "figure"),
        *(Input(name, "value") for name in ("method", "color", "join")),
        Input("clicked", "data"),
        Input("found", "data"),
    )
    def draw(method: str, color: str, join: list[str], clicked: list[int], found: list[int] | None) -> Any:
        return figure(latents, page.projections[method], color, _known(page, clicked), found, bool(join))

    @app.callback(
        Output("clicked", "data"),
        Input("map", "clickData"),
        State("clicked", "data"),
        prevent_initial_call=True,
    )
    def click(event: Any, clicked: list[int]) -> Any:
        points = [point["customdata"] for point in (event or {}).get("points", []) if "customdata" in point]
        return _known(page, [*clicked, *points[:1]])[-2:] if points else dash.no_update

    @app.callback(
        Output("found", "data"),
        Input("map", "selectedData"),
        Input("search", "value"),
        prevent_initial_call=True,
    )
    def select(event: Any, text: str | None) -> Any:
        if dash.ctx.triggered_id == "search":
            return find(page.explorer, text or "")
        if event is None:
            return None
        lassoed = [point["customdata"] for point in event.get("points", []) if "customdata" in point]
        return lassoed or dash.no_update  # drawing anew, without the lasso, is followed by an empty one

    @app.callback(Output("names", "value"), Output("count", "children"), Input("found", "data"))
    def list_names(found: list[int] | None) -> tuple[str, str]:
        names = sorted(str(latents.name[index]) for index in _known(page, found or []))
        return "\n".join(names), "Nothing selected" if found is None else f"{len(names)} selected"


def _add_answers(app: dash.Dash, page: Page) -> None:
    explorer = page.explorer

    @app.callback(Output("chosen", "children"), Input("clicked", "data"))
    def show(clicked: list[int]) -> Any:
        clicked = _known(page, clicked)
        return [*chosen_panel(explorer, clicked, page.difference_limit), distance_text(explorer, clicked)]

    @app.callback(
        Output("frames-shown", "children"),
        Input("clicked", "data"),
        Input("walk", "value"),
        Input("frames", "value"),
    )
    def walk(clicked: list[int], kind: str, frames: int | None) -> Any:
        clicked, steps = _known(page, clicked), min(max(frames or 3, 3), MOST_FRAMES)
        return walk_panel(explorer, clicked, kind == PAIR, steps)

    if explorer.has_samples:

        @app.callback(
            Output("samples-shown", "children"),
            Input("sample", "n_clicks"),
            Input("clicked", "data"),
            State("samples", "value"),
        )
        def sample(_: int | None, clicked: list[int], count: int | None) -> Any:
            asked = dash.ctx.triggered_id == "sample"
            return samples_panel(
                explorer, _known(page, clicked), min(max(count or 1, 1), MOST_SAMPLES), asked
            )


def find(explorer: Explorer, text: str) -> list[int] | None:
    """The images of the patient of this name, or else those with the text in their name; None for no text."""
    text = text.strip().lower()
    if not text:
        return None
    exact = np.flatnonzero(np.char.lower(explorer.latents.patient) == text)
    if len(exact):
        return exact.tolist()
    return [index for index, name in enumerate(explorer.latents.name) if text in str(name).lower()]


def _known(page: Page, indices: Sequence[Any]) -> list[int]:
    """Those that are indices of the page's images: a browser may send anything."""
    return [index for index in indices if isinstance(index, int) and 0 <= index < len(page.explorer)]
