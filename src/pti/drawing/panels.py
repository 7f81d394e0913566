"""Raw images and differences as small pictures: the parts of comparisons and pages."""

import base64
import io
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

DARK, LIGHT, MUTED = (17, 19, 23), (236, 238, 242), (150, 156, 166)
_PANEL, _GAP = 320, 8
# Dark in the middle, so that what agrees looks like the background of the images beside it.
_DIVERGING = ((120, 205, 255), (30, 110, 215), (17, 19, 23), (215, 75, 25), (255, 200, 110))
DIVERGING_CSS = ", ".join("rgb({},{},{})".format(*color) for color in _DIVERGING)
"""The colours of a difference from the lowest to the highest, for a CSS gradient."""


def tissue_window(raw: np.ndarray, percentiles: tuple[float, float] = (0.5, 99.5)) -> tuple[float, float]:
    """The raw values shown as black and as white.

    Percentiles of the tissue (pixels other than 0): neither a few bright pixels nor much background make it
    dark. Black is 0 where the tissue lies above it, so that tissue stands out from the background.

    Args:
        raw: (…) raw image or images; all 0 gives (0, 1).
    """
    tissue = raw[raw != 0]
    if tissue.size == 0:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(tissue, percentiles))
    low = min(low, 0.0)
    return (low, high) if high > low else (low, low + 1.0)


def grey(raw: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """(H, W) raw -> (H, W, 3) uint8, black at ``window[0]`` and white at ``window[1]``."""
    low, high = window
    shown = np.clip((raw.astype(np.float64) - low) / (high - low), 0, 1)
    return np.repeat((shown * 255).round().astype(np.uint8)[..., None], 3, axis=-1)


def diverging(difference: np.ndarray, limit: float) -> np.ndarray:
    """(H, W) signed difference -> (H, W, 3) uint8: blue below 0, orange above, full at ± ``limit``."""
    place = (np.clip(difference / limit, -1, 1) + 1) / 2
    stops = np.linspace(0, 1, len(_DIVERGING))
    channels = [np.interp(place, stops, [color[index] for color in _DIVERGING]) for index in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


def sequential(values: np.ndarray, limit: float) -> np.ndarray:
    """(H, W) from 0 up -> (H, W, 3) uint8: black at 0, violet, orange, light yellow at ``limit``."""
    from matplotlib import colormaps

    return colormaps["inferno"](np.clip(values / limit, 0, 1), bytes=True)[..., :3]


def png(pixels: np.ndarray) -> bytes:
    """(H, W, 3) uint8 as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def data_uri(pixels: np.ndarray) -> str:
    """(H, W, 3) uint8 as a ``data:`` address, for a page that stands alone."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()


def titled_row(
    panels: Sequence[tuple[str, np.ndarray]],
    caption: str,
    bar: tuple[int, str, str] | None = None,
    ramp: Callable[[np.ndarray], np.ndarray] = lambda place: diverging(2 * place - 1, 1),
) -> Image.Image:
    """Panels side by side, each under its title, above a caption and a scale of colours.

    Args:
        panels: title and (H, W, 3) uint8 of each, all of one shape; small ones are enlarged, pixel by pixel.
        caption: lines below, from the left.
        bar: index of the panel with colours, and what its lowest and its highest colour mean; None when
            there is none.
        ramp: (H, W) places on the scale, 0 to 1 -> (H, W, 3) uint8 colours.
    """
    height, width = panels[0][1].shape[:2]
    zoom = max(1, round(_PANEL / max(height, width)))
    height, width = height * zoom, width * zoom
    size = max(13, min(width // 18, 28))
    lines = caption.splitlines()
    top, bottom, step = 2 * size, size * (1 + len(lines) * 3 // 2), max(width, 9 * size) + _GAP
    picture = Image.new("RGB", (step * len(panels) + _GAP, top + height + bottom), DARK)
    draw = ImageDraw.Draw(picture)
    for index, (title, pixels) in enumerate(panels):
        left = _GAP + index * step
        draw.text((left, size // 2), title, LIGHT, _font(size))
        shown = Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)
        picture.paste(shown, (left, top))
    line = top + height + size // 2
    left = picture.width if bar is None else _GAP + bar[0] * step
    for number, text in enumerate(lines):
        shown = _shortened(text, left - 2 * _GAP, _font(size))
        draw.text((_GAP, line + number * size * 3 // 2), shown, MUTED if number else LIGHT, _font(size))
    if bar is not None:
        _color_bar(picture, (left, line, left + max(width, 9 * size), line + size), ramp, *bar[1:])
    return picture


def _color_bar(
    picture: Image.Image,
    box: tuple[int, int, int, int],
    ramp: Callable[[np.ndarray], np.ndarray],
    low: str,
    high: str,
) -> None:
    """The scale, with its ends written beside it."""
    left, top, right, bottom = box
    draw, font = ImageDraw.Draw(picture), _font(bottom - top)
    ends = [int(font.getlength(text)) + _GAP for text in (low, high)]
    draw.text((left, top), low, LIGHT, font)
    draw.text((right - ends[1] + _GAP, top), high, LIGHT, font)
    length = right - left - sum(ends)
    if length > 4:
        colors = ramp(np.linspace(0, 1, length)[None].repeat(bottom - top - 4, 0))
        picture.paste(Image.fromarray(colors), (left + ends[0], top + 3))


def _shortened(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    while text and font.getlength(text) > width:
        text = text[:-2].rstrip() + "…"
    return text


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # matplotlib brings a font along; Pillow's own has no "±" everywhere.
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)
