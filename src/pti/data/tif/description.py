"""Texts in which ImageJ, OME, tifffile and GDAL describe what the pixels of a TIF file mean.

Texts may be hostile: each expression needs a time that is proportional to their length.
"""

import html
import json
import math
import re
from typing import NamedTuple

_UNIT_MM = {"nm": 1e-6, "mm": 1.0, "cm": 10.0, "m": 1000.0}
_UNIT_MM |= dict.fromkeys(("µm", "μm", "\\u00b5m", "um", "micron", "microns", "micrometer"), 1e-3)
_UNIT_MM |= dict.fromkeys(("inch", "inches", "in"), 25.4)


class PixelSize(NamedTuple):
    """Edges of a pixel in millimetres, (x, y), and the statement that they come from."""

    x: float
    y: float
    source: str


def imagej_items(text: str) -> dict[str, str]:
    """Return the items of ImageJ's description; none in any other text."""
    return dict(re.findall(r"(?m)^(\w+)=([^\r\n]*)", text)) if re.search(r"(?m)^ImageJ=", text) else {}


def described_size(text: str, across: float, down: float) -> PixelSize | None:
    """Return the pixel size by ImageJ's unit, for these resolutions, or by OME's physical sizes."""
    items = imagej_items(text)
    unit = items.get("unit", "").strip()
    if (mm := _UNIT_MM.get(unit.lower())) and across:
        down_mm = _UNIT_MM.get(items.get("yunit", unit).strip().lower(), mm)
        return PixelSize(mm / across, down_mm / (down or across), f"XResolution {across:g} per {unit}")
    pixels = re.search(r"<(?:\w+:)?Pixels\b[^<>]*>", text) if "OME" in text else None
    ome = dict(re.findall(r"""(PhysicalSize\w{1,5})\s*=\s*["']([^"']*)["']""", pixels[0])) if pixels else {}
    sizes = [
        (number(ome[f"PhysicalSize{axis}"]), html.unescape(ome.get(f"PhysicalSize{axis}Unit", "µm")))
        for axis in "XY"
        if f"PhysicalSize{axis}" in ome
    ]
    if not sizes or any(unit.lower() not in _UNIT_MM for _, unit in sizes):
        return None
    edges = [size * _UNIT_MM[unit.lower()] for size, unit in sizes]
    return PixelSize(edges[0], edges[-1], "PhysicalSizeX {:g} {}".format(*sizes[0]))


def images_in_one_page(text: str) -> tuple[int, int]:
    """Return the number of images by ImageJ and of pixels by tifffile; 0 where unknown."""
    pixels = math.prod(next(filter(None, map(_shape, text.splitlines())), [0]))
    images = imagej_items(text).get("images", "")[:9]
    return int(images) if images.isdecimal() else 0, pixels


def _shape(line: str) -> list[int]:
    """Return the shape in tifffile's description, whatever precedes it there; empty in any other line."""
    if plain := re.match(r'(?:\{"shape": \[|shape=\()([\d, ]+)', line):
        return [int(size[:9]) for size in re.findall(r"\d+", plain[1])[:9]]
    try:
        shape = json.loads(line).get("shape") if line.startswith("{") and '"shape"' in line else None
    except (ValueError, RecursionError):
        return []
    sizes = shape[:9] if isinstance(shape, list) else []
    return [min(max(size, 0), 10**9) for size in sizes if isinstance(size, int)]


def calibration(text: str) -> str | None:
    """Return the function by which ImageJ or GDAL converts stored to real values; None if they are equal."""
    items = imagej_items(text)
    defaults = {"cf": "20", "c0": "0", "c1": "1"}
    function, c0, c1 = (number(items.get(key, value)) for key, value in defaults.items())
    if function != 20 and (function, c0, c1) != (0, 0, 1):
        return f"ImageJ: function {function:g} with c0 = {c0:g}, c1 = {c1:g}"
    for role, value in re.findall(r'role="(scale|offset)"[^<>]*>([^<>]*)<', text):
        if number(value) != (role == "scale"):
            return f"GDAL: {role} {value[:20]}"
    return None


def number(text: str) -> float:
    """Return the number in a text; NaN if there is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
