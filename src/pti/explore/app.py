"""The explorer's Dash application: a map of all images, and panels about the clicked ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash
import numpy as np
from dash import Input, Output, State

from pti.explore.layout import ALONG, MAX_FRAMES, MAX_SAMPLES, PAIR, Page, page_frame, page_layout
from pti.explore.map_figure import figure
from pti.explore.panels import attribute_panel, chosen_panel, samples_panel, walk_panel
from pti.latent_study.latents import Latents


def build_app(page: Page) -> dash.Dash:
    """Build the application; it serves its own page and libraries, and data of the page's images only."""
    app = dash.Dash(
        __name__,
        title=page.title,
        update_title="",
        # A missing folder, so that no file is served; an empty name would mean this package's folder.
        include_assets_files=False,
        assets_folder="no_assets",
        pages_folder="",
        use_pages=False,
        serve_locally=True,
        enable_mcp=False,
        index_string=page_frame(),
    )
    app.layout = page_layout(page)
    _add_map_callbacks(app, page)
    _add_panel_callbacks(app, page)
    return app


def _add_map_callbacks(app: dash.Dash, page: Page) -> None:
    latents = page.explorer.latents

    @app.callback(
        Output("map", "figure"),
        *(Input(name, "value") for name in ("method", "color", "join")),
        Input("clicked", "data"),
        Input("selected", "data"),
    )
    def draw(method: str, color: str, join: list[str], clicked: list[int], selected: list[int] | None) -> Any:
        projection = page.projections[method]
        return figure(latents, projection, color, _valid(latents, clicked), selected, bool(join))

    @app.callback(
        Output("clicked", "data"),
        Input("map", "clickData"),
        State("clicked", "data"),
        prevent_initial_call=True,
    )
    def click(event: Any, clicked: list[int]) -> Any:
        indices = _indices_of(event)
        return _valid(latents, [*clicked, *indices[:1]])[-2:] if indices else dash.no_update

    @app.callback(
        Output("selected", "data"),
        Input("map", "selectedData"),
        Input("search", "value"),
        prevent_initial_call=True,
    )
    def select(event: Any, text: str | None) -> Any:
        if dash.ctx.triggered_id == "search":
            return search(latents, text or "")
        if event is None:
            return None
        return _indices_of(event) or dash.no_update  # redrawing without the lasso sends an empty selection

    @app.callback(Output("names", "value"), Output("count", "children"), Input("selected", "data"))
    def list_names(selected: list[int] | None) -> tuple[str, str]:
        names = sorted(str(latents.name[index]) for index in _valid(latents, selected or []))
        return "\n".join(names), "Nothing selected" if selected is None else f"{len(names)} selected"


def _add_panel_callbacks(app: dash.Dash, page: Page) -> None:
    explorer, latents = page.explorer, page.explorer.latents

    @app.callback(Output("chosen", "children"), Input("clicked", "data"))
    def show(clicked: list[int]) -> Any:
        return chosen_panel(explorer, _valid(latents, clicked), page.difference_limit)

    @app.callback(
        Output("frames-shown", "children"),
        Input("clicked", "data"),
        Input("walk", "value"),
        Input("frames", "value"),
    )
    def walk(clicked: list[int], kind: str, frames: int | None) -> Any:
        steps = min(max(frames or 3, 3), MAX_FRAMES)
        if kind.startswith(ALONG):
            return attribute_panel(explorer, _valid(latents, clicked), kind.removeprefix(ALONG), steps)
        return walk_panel(explorer, _valid(latents, clicked), kind == PAIR, steps)

    if explorer.translator is None:
        return

    @app.callback(
        Output("samples-shown", "children"),
        Input("sample", "n_clicks"),
        Input("clicked", "data"),
        State("samples", "value"),
    )
    def sample(_: int | None, clicked: list[int], count: int | None) -> Any:
        requested = dash.ctx.triggered_id == "sample"
        samples = min(max(count or 1, 1), MAX_SAMPLES)
        return samples_panel(explorer, _valid(latents, clicked), samples, requested)


def search(latents: Latents, text: str) -> list[int] | None:
    """Find the images of the patient ``text``, or else those whose name contains it; None for no text."""
    text = text.strip().lower()
    if not text:
        return None
    exact = np.flatnonzero(np.char.lower(latents.patient) == text)
    if len(exact):
        return exact.tolist()
    return [index for index, name in enumerate(latents.name) if text in str(name).lower()]


def _indices_of(event: Any) -> list[int]:
    """Return the image indices of the points in a plotly event."""
    return [point["customdata"] for point in (event or {}).get("points", []) if "customdata" in point]


def _valid(latents: Latents, indices: Sequence[Any]) -> list[int]:
    """Keep the indices of existing images: a browser may send anything."""
    return [index for index in indices if isinstance(index, int) and 0 <= index < len(latents)]
