"""Pages in a real browser: the system's Chromium, driven by Playwright; skipped where there is none."""

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OWN = ("data:", "blob:", "about:", "file:", "http://127.0.0.1:", "http://localhost:")

POINT = """index => {
    const plot = document.querySelector(".js-plotly-plot"), frame = plot.getBoundingClientRect();
    const {_size: margin, xaxis, yaxis} = plot._fullLayout;
    for (const trace of plot.data) {
        const at = trace.customdata ? Array.from(trace.customdata).indexOf(index) : -1;
        const place = at >= 0 ? [xaxis.l2p(trace.x[at]), yaxis.l2p(trace.y[at])] : null;
        if (place) return [frame.left + margin.l + place[0], frame.top + margin.t + place[1]];
    }
}"""


AREA = """() => {
    const plot = document.querySelector(".js-plotly-plot"), frame = plot.getBoundingClientRect();
    const {l, t, w, h} = plot._fullLayout._size;
    return [[frame.left + l, frame.top + t], [frame.left + l + w, frame.top + t + h]];
}"""


@contextmanager
def open_page(address: str, width: int = 1280, height: int = 1000, scheme: Any = "light") -> Iterator[Any]:
    """A page on which no error, warning or request beyond this machine is allowed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    complaints: list[str] = []

    def watch(request: Any) -> None:
        if not request.url.startswith(OWN):
            complaints.append(f"requested {request.url}")

    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=_chromium(driver), args=_arguments())
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.set_default_timeout(60_000)
        page.on("request", watch)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None,
        )
        page.goto(address)
        page.wait_for_selector(".js-plotly-plot .scatterlayer .point")
        yield page
        browser.close()
    assert complaints == []


def click_point(page: Any, index: int) -> None:
    """Click the point of the image with this index."""
    page.mouse.click(*page.evaluate(POINT, index))


def alone(page: Any, count: int) -> list[int]:
    """The indices whose points lie farthest from all others: a click there means no neighbour."""
    places = np.array([page.evaluate(POINT, index) for index in range(count)])
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1) + 1e9 * np.eye(count)
    return np.argsort(-apart.min(1)).tolist()


def lasso(page: Any, indices: list[int], margin: float = 14) -> None:
    """Draw a lasso around points, as a rectangle ``margin`` pixels wider than they need."""
    points = np.array([page.evaluate(POINT, index) for index in indices])
    low, high = np.array(page.evaluate(AREA))  # outside of it a drag means an axis
    (left, top), (right, bottom) = (
        np.clip(ends, low + 3, high - 3) for ends in (points.min(0) - margin, points.max(0) + margin)
    )
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner, steps=8)
    page.mouse.up()


def pixels_of(picture: Any, shape: tuple[int, int]) -> np.ndarray:
    """What an ``<img>`` shows on the screen, as (H, W) float grey values 0 to 255."""
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    shown = Image.open(io.BytesIO(picture.screenshot())).convert("L")
    return np.asarray(shown.resize((shape[1], shape[0]), Image.Resampling.BOX), float)


def overlaps(page: Any) -> bool:
    """Whether the page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


def _chromium(driver: Any) -> str:
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    own = driver.chromium.executable_path
    if found is None and not Path(own).is_file():
        pytest.skip("no Chromium or Chrome is installed (apt-get install chromium)")
    return found or own


def _arguments() -> list[str]:
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    return ["--no-sandbox"] if root else []  # it refuses to start for root otherwise
