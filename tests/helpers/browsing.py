"""Pages in the system's Chromium, driven by Playwright; tests are skipped where it is missing."""

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
LOCAL = ("data:", "blob:", "about:", "file:", "http://127.0.0.1:", "http://localhost:")

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
    """Open a page; fail on errors, warnings and requests to other machines."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    complaints: list[str] = []

    def watch(request: Any) -> None:
        if not request.url.startswith(LOCAL):
            complaints.append(f"requested {request.url}")

    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=_chromium(driver), args=_arguments())
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.set_default_timeout(60_000)
        page.on("request", watch)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda entry: complaints.append(entry.text) if entry.type in ("error", "warning") else None,
        )
        page.goto(address)
        page.wait_for_selector(".js-plotly-plot .scatterlayer .point")
        yield page
        browser.close()
    assert complaints == []


def click_point(page: Any, index: int) -> None:
    """Click the point of the image with this index."""
    page.mouse.click(*page.evaluate(POINT, index))


def isolated_points(page: Any, count: int) -> list[int]:
    """Return all indices, those farthest from any other point first: safe to click."""
    points = np.array([page.evaluate(POINT, index) for index in range(count)])
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1) + 1e9 * np.eye(count)
    return np.argsort(-distances.min(1)).tolist()


def lasso(page: Any, indices: list[int], margin: float = 14) -> None:
    """Draw a rectangular lasso around points, with a margin in pixels."""
    points = np.array([page.evaluate(POINT, index) for index in indices])
    low, high = np.array(page.evaluate(AREA))  # a drag outside this area moves an axis
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
    """Return an ``<img>`` as shown on the screen, (H, W) float grey values 0 to 255."""
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    shown = Image.open(io.BytesIO(picture.screenshot())).convert("L")
    return np.asarray(shown.resize((shape[1], shape[0]), Image.Resampling.BOX), float)


def overlaps(page: Any) -> bool:
    """Return whether the page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


def _chromium(driver: Any) -> str:
    installed = next((path for name in NAMES if (path := shutil.which(name))), None)
    bundled = driver.chromium.executable_path
    if installed is None and not Path(bundled).is_file():
        pytest.skip("no Chromium or Chrome is installed (apt-get install chromium)")
    return installed or bundled


def _arguments() -> list[str]:
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    return ["--no-sandbox"] if root else []  # Chromium doesn't start as root otherwise
