"""Turn raw images and differences into RGB panels, and panels into captioned rows."""

import base64
import io
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

DARK, LIGHT, MUTED, AMBER = (17, 19, 23), (236, 238, 242), (150, 156, 166), (255, 176, 32)
_PANEL, _GAP = 320, 8  # pixels
# Dark in the middle, so that agreement looks like the background of the images beside it.
_DIVERGING = ((120, 205, 255), (30, 110, 215), DARK, (215, 75, 25), (255, 200, 110))
DIVERGING_CSS = ", ".join("rgb({},{},{})".format(*color) for color in _DIVERGING)
"""The colours of differences from lowest to highest, for a CSS gradient."""


def tissue_window(raw: np.ndarray, percentiles: tuple[float, float] = (0.5, 99.5)) -> tuple[float, float]:
    """Return the raw values to show as black and as white.

    They are percentiles of the tissue (pixels other than 0), so that neither a few bright pixels nor a large
    background darkens the picture. Black is at most 0, so that all tissue stands out from the background.

    Args:
        raw: (…) raw image or images; without tissue the result is (0, 1).
        percentiles: The percentiles of black and white.
    """
    tissue = raw[raw != 0]
    if tissue.size == 0:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(tissue, percentiles))
    low = min(low, 0.0)
    return (low, high) if high > low else (low, low + 1.0)


def grey(raw: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Map (H, W) raw values to (H, W, 3) uint8: black at ``window[0]``, white at ``window[1]``."""
    low, high = window
    shown = np.clip((raw.astype(np.float64) - low) / (high - low), 0, 1)
    return np.repeat((shown * 255).round().astype(np.uint8)[..., None], 3, axis=-1)


def diverging(difference: np.ndarray, limit: float) -> np.ndarray:
    """Map (H, W) differences to (H, W, 3) uint8: blue below 0, orange above, full colour at ± ``limit``."""
    place = (np.clip(difference / limit, -1, 1) + 1) / 2
    stops = np.linspace(0, 1, len(_DIVERGING))
    channels = [np.interp(place, stops, channel) for channel in zip(*_DIVERGING, strict=True)]
    return np.stack(channels, -1).round().astype(np.uint8)


def sequential(values: np.ndarray, limit: float) -> np.ndarray:
    """Map (H, W) values from 0 to (H, W, 3) uint8: black at 0, violet, orange, light yellow at ``limit``."""
    from matplotlib import colormaps

    return colormaps["inferno"](np.clip(values / limit, 0, 1), bytes=True)[..., :3]


def png(pixels: np.ndarray) -> bytes:
    """Encode (H, W, 3) uint8 as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def data_uri(pixels: np.ndarray) -> str:
    """Encode (H, W, 3) uint8 as a ``data:`` address, for self-contained pages."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()


def titled_row(
    panels: Sequence[tuple[str, np.ndarray]],
    caption: str,
    color_bar: tuple[int, str, str] | None = None,
    colors: Callable[[np.ndarray], np.ndarray] = lambda place: diverging(2 * place - 1, 1),
    warning: str = "",
) -> Image.Image:
    """Draw panels side by side under their titles, above a caption and a colour bar.

    Args:
        panels: Title and (H, W, 3) uint8 of each panel, all of one shape; small ones are enlarged without
            interpolation.
        caption: Lines below the panels, flush left.
        color_bar: Index of the panel to put the colour bar under, and the labels of its lowest and highest
            colour; None = no colour bar.
        colors: Maps (H, W) positions on the bar, 0 to 1, to (H, W, 3) uint8 colours.
        warning: Last line, in amber, with a frame around the picture; empty = none.
    """
    height, width = panels[0][1].shape[:2]
    zoom = max(1, round(_PANEL / max(height, width)))
    height, width = height * zoom, width * zoom
    size = max(13, min(width // 18, 28))
    font, column = _font(size), max(width, 9 * size)
    lines = [(text, MUTED if number else LIGHT) for number, text in enumerate(caption.splitlines())]
    lines += [(warning, AMBER)] if warning else []
    top, bottom, step = 2 * size, size * (1 + len(lines) * 3 // 2), column + _GAP
    picture = Image.new("RGB", (step * len(panels) + _GAP, top + height + bottom), DARK)
    draw = ImageDraw.Draw(picture)
    for index, (title, pixels) in enumerate(panels):
        left = _GAP + index * step
        draw.text((left, size // 2), title, LIGHT, font)
        shown = Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)
        picture.paste(shown, (left, top))
    line = top + height + size // 2
    left = picture.width if color_bar is None else _GAP + color_bar[0] * step
    for number, (text, color) in enumerate(lines):
        shown = _shortened(text, left - 2 * _GAP, font)
        draw.text((_GAP, line + number * size * 3 // 2), shown, color, font)
    if warning:
        draw.rectangle((0, 0, picture.width - 1, picture.height - 1), outline=AMBER, width=_GAP // 2)
    if color_bar is not None:
        _draw_color_bar(picture, (left, line, left + column, line + size), colors, *color_bar[1:])
    return picture


def _draw_color_bar(
    picture: Image.Image,
    box: tuple[int, int, int, int],
    colors: Callable[[np.ndarray], np.ndarray],
    low: str,
    high: str,
) -> None:
    left, top, right, bottom = box
    draw, font = ImageDraw.Draw(picture), _font(bottom - top)
    ends = [int(font.getlength(text)) + _GAP for text in (low, high)]
    draw.text((left, top), low, LIGHT, font)
    draw.text((right - ends[1] + _GAP, top), high, LIGHT, font)
    length = right - left - sum(ends)
    if length > 4:
        bar = colors(np.linspace(0, 1, length)[None].repeat(bottom - top - 4, 0))
        picture.paste(Image.fromarray(bar), (left + ends[0], top + 3))


def _shortened(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    while text and font.getlength(text) > width:
        text = text[:-2].rstrip() + "…"
    return text


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # Not every build of Pillow has "±" in its own font; matplotlib's font has it.
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)
