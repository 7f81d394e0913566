"""Outlines of the phantom in closed form: jaw and tooth as regions q(y) > (x - c(y))², with their distances.

Coordinates are in millimetres: y points up from the lower border of the jaw, x from buccal (negative) to
lingual.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.interpolate import PchipInterpolator

from pti.data.phantom.anatomy import Section

CUSP_SLOPE = 0.85
"""Distance to the chewing surface / depth below it along the axis: the cosine of its typical slope."""

CUSP_ROUND = 1.4
"""Rounding of the edge between the crown's outline and the cusps, mm."""

FURCATION_MM = 4.0
"""Distance from the neck of the tooth to the fork of two roots."""


class Band(NamedTuple):
    """Region that each horizontal line cuts in one interval: |x - centre| < sqrt(square), at heights y."""

    square: np.ndarray
    centre: np.ndarray
    square_slope: np.ndarray
    centre_slope: np.ndarray


def distance(band: Band, x: np.ndarray) -> np.ndarray:
    """Compute the signed distance (mm, positive inside) to the border of a band.

    With F = square - (x - centre)² and g = |∇F|/2 the distance is F / (g + sqrt(g² + F)), which is exact for
    circles and straight strips and correct to first order at every border. Shapes broadcast: band (rows, 1),
    x (1, columns).
    """
    away = x - band.centre
    inside = band.square - away**2
    half = 0.25 * (band.square_slope + 2 * away * band.centre_slope) ** 2 + away**2
    return inside / (np.sqrt(half) + np.sqrt(np.maximum(half + inside, 0)) + 1e-6)


def jaw_band(section: Section, y: np.ndarray, healed: bool) -> Band:
    """Compute the outline of the bone at heights y; without a crest before healing (``healed`` False)."""
    step = 1e-3
    square, centre = _jaw(section, y, healed)
    higher, moved = _jaw(section, y + step, healed)
    parts = (square, centre, (higher - square) / step, (moved - centre) / step)
    return Band(*(part.astype(np.float32) for part in parts))


def jaw_width(section: Section, height: float) -> float:
    """Compute the width (mm) of the healed bone at a height (mm) above the base; 0 above the crest."""
    square, _ = _jaw(section, np.array([height]), healed=True)
    return 2 * float(np.sqrt(max(square[0], 0.0))) if 0 < height < section.healed_height else 0.0


def _jaw(section: Section, y: np.ndarray, healed: bool) -> tuple[np.ndarray, np.ndarray]:
    # Far from the jaw, extrapolated outlines would be so steep that their distance seemed to be 0.
    near = np.clip(y, -2.0, section["crest_height"] + 4)
    left, right = (curve(near) for curve in _outlines(section))
    left = left + _wobble(section.wobble[0], y)
    right = right + _wobble(section.wobble[1], y)
    cap = _cap(y / section["base_round"])
    if healed:
        crest = section.healed_height
        start = neck(section)[1] - 0.85 * section["root_length"]
        share = np.clip((y - start) / (crest - start), 0, 1)
        lost = (1.3 + 0.55 * (section["crest_height"] - crest)) * share**1.6
        left, right = left + lost, right - 0.35 * lost
        cap = cap * _cap((crest - y) / section["ridge_round"])
    return cap * (0.5 * (right - left)) ** 2, 0.5 * (left + right)


def _cap(share: np.ndarray) -> np.ndarray:
    """Round an end elliptically: 0 at the tip, 1 from share = 1 on, negative beyond the tip."""
    return np.where(share < 1, share * (2 - share), 1.0)


def _wobble(waves: np.ndarray, y: np.ndarray) -> np.ndarray:
    amplitude, wavelength, phase = waves
    return (amplitude * np.sin(2 * np.pi * y[..., None] / wavelength + phase)).sum(-1)


@lru_cache(maxsize=4)
def _outlines(section: Section) -> tuple[PchipInterpolator, PchipInterpolator]:
    """Interpolate the buccal and the lingual outline x(y) before healing."""
    crest, half = section["crest_height"], 0.5 * section["belly_width"]
    base = 0.5 * section["base_width"]
    heights = np.array([-2.0, 0.0, crest / 3, 0.5 * crest, crest - 4.5, crest - 0.5, crest + 4])
    root_left, root_right = _root_outlines(section, heights)
    thick, thin = section["plate_lingual"], section.plate_buccal
    lean = section["lean"] * heights / crest
    left = np.array([-base, -base, -half, -half, 0, 0, 0]) + lean
    right = np.array([base, base, half - section["fossa"], half - 0.4 * section["fossa"], 0, 0, 0]) + lean
    left[4:] = root_left[4:] - section["gap"] - thin - np.array([0.3, 0, 0])
    right[4:] = root_right[4:] + section["gap"] + thick + np.array([0.5, 0, 0])
    left[6], right[6] = left[5], right[5]
    return PchipInterpolator(heights, left), PchipInterpolator(heights, right)


def neck(section: Section) -> tuple[float, float]:
    """Locate the crossing of the tooth's axis and its neck (the cementoenamel junction): x, y."""
    x = 0.8 * section["lean"] + 5 * math.sin(section["tooth_angle"])
    return x, section["crest_height"] + section.neck_height


def _root_outlines(section: Section, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x0, y0 = neck(section)
    angle = section["tooth_angle"]
    along = (y - y0) / math.cos(angle)
    half, bend = tooth_profile(section, along)
    axis = x0 + along * math.sin(angle) + bend
    return axis - half / math.cos(angle), axis + half / math.cos(angle)


def tooth_profile(section: Section, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute half-width and bend of the tooth, without its rounded ends, v mm above the neck on its axis."""
    r, length, crown = section["neck"], section["root_length"], section["crown_height"]
    knots = np.array([-length - 2, -length, -0.8 * length, -0.45 * length, 0, 0.4 * crown, crown, crown + 2])
    apex, taper = section["apex"] * r, section["taper"] * r
    bulge = r + section["bulge"]
    widths = np.array([apex * 0.8, apex * 0.9, apex * 1.2, taper, r, bulge, 0.8 * bulge, 0.7 * bulge])
    bend = section["root_bend"] * np.clip(-v / length, 0, 1.2) ** 3 + 0.012 * np.maximum(v, 0) ** 2
    return PchipInterpolator(knots, widths)(np.clip(v, knots[0], knots[-1])), bend


@dataclass(frozen=True)
class Tooth:
    """The tooth at each pixel; every field is (rows, columns) float32 in mm.

    Attributes:
        u: position to the lingual of the tooth's axis.
        v: position above the tooth's neck, along its axis.
        half: half-width of the tooth at v.
        bend: bend of its axis at v.
        top: height of the chewing surface above the neck at u.
        inside: signed distance to the surface, positive inside.
    """

    u: np.ndarray
    v: np.ndarray
    half: np.ndarray
    bend: np.ndarray
    top: np.ndarray
    inside: np.ndarray


def place_tooth(section: Section, x: np.ndarray, y: np.ndarray) -> Tooth:
    """Place the tooth at x (1, columns), y (rows, 1): a band along its axis, cut off by the cusps."""
    x0, y0 = neck(section)
    sine, cosine = math.sin(section["tooth_angle"]), math.cos(section["tooth_angle"])
    u, v = (x - x0) * cosine - (y - y0) * sine, (x - x0) * sine + (y - y0) * cosine
    step = 0.02
    along = np.arange(float(v.min()) - step, float(v.max()) + 2 * step, step)
    half, bend = tooth_profile(section, along)
    square = _cap((along + section["root_length"]) / 2.2) * half**2
    table = np.stack([square, bend, np.gradient(square, step), np.gradient(bend, step), half])
    index = ((v - along[0]) * (1 / step) + 0.5).astype(np.int32)
    *band, half = (row[index] for row in table.astype(np.float32))
    top = chewing_surface(section, u)
    inside = smooth_minimum(distance(Band(*band), u), CUSP_SLOPE * (top - v), CUSP_ROUND)
    if section.two_roots:
        apart = np.minimum(0.5 * (-v - FURCATION_MM), 0.25 * section["neck"])
        inside = smooth_minimum(inside, np.abs(u - band[1]) - apart, 0.4)
    return Tooth(u, v, half, band[1], top, inside)


def chewing_surface(section: Section, u: np.ndarray) -> np.ndarray:
    """Compute the height (mm above the neck) of the chewing surface: a fossa, two cusps, buccal higher."""
    half = section["neck"] + section["bulge"]
    t = np.clip((u - 0.6) / (0.9 * half), -0.75, 0.75)
    fossa = section["cusp_fossa"] * (0.5 + 0.5 * np.cos(2 * math.pi * t))
    step = 0.5 * section["cusp_step"] * (1 + np.tanh((u - 0.6) / 1.5))
    return section["crown_height"] - fossa - step


def crown_tip(section: Section) -> float:
    """Compute the height (mm) of the highest point of the crown above the lower border of the jaw."""
    u = np.linspace(-6, 6, 401)
    top = chewing_surface(section, u)
    half, bend = tooth_profile(section, top)
    lateral = np.clip(half - np.abs(u - bend), 0, CUSP_ROUND)
    # The surface is where the smooth minimum of `lateral` and the distance below the cusps is 0.
    top = top - (math.sqrt(CUSP_ROUND) - np.sqrt(lateral)) ** 2 / CUSP_SLOPE
    angle = section["tooth_angle"]
    return neck(section)[1] + float(np.max(top * math.cos(angle) - u * math.sin(angle)))


def smooth_minimum(a: np.ndarray, b: np.ndarray, k: float) -> np.ndarray:
    """Compute the minimum with its corner rounded over k (mm); at most k/4 below the exact minimum."""
    h = np.maximum(k - np.abs(a - b), 0)
    return np.minimum(a, b) - h**2 / (4 * k)
