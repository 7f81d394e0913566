"""Colours and marks of the study's pictures: the same in files and pages."""

from __future__ import annotations

import math

import numpy as np

from pti.latent_study.latents import Latents

GROUP_COLORS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#b08a00",
    "#56b4e9",
)  # Okabe & Ito: safe for all eyes
UNKNOWN = "#9aa0a8"
"""Of what has no value."""

SCALE = ("#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39")
"""An attribute from its lowest to its highest value: viridis without its ends."""

_SCALE_PERCENTILES = (1, 99)


def distinct(count: int) -> list[str]:
    """Colours ``#rrggbb`` that neighbours in the list can be told apart by: hues by the golden angle."""
    lightness, chroma = (0.62, 0.5, 0.72), (0.16, 0.13)
    return [_oklch(lightness[n % 3], chroma[n % 2], math.radians(n * 137.508 + 25)) for n in range(count)]


def palette(latents: Latents, color_by: str) -> dict[str, str]:
    """Label -> colour of a text column; images without a label are `UNKNOWN`."""
    labels = sorted(set(getattr(latents, color_by).tolist()) - {""})
    if color_by == "group" and len(labels) <= len(GROUP_COLORS):
        return dict(zip(labels, GROUP_COLORS, strict=False))
    return dict(zip(labels, distinct(len(labels)), strict=True))


def limits(values: np.ndarray) -> tuple[float, float]:
    """The values that get the first and the last colour: percentiles, so that outliers don't take them."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(finite, _SCALE_PERCENTILES))
    return (low, high) if high > low else (low, low + 1.0)


def _oklch(lightness: float, chroma: float, hue: float) -> str:
    """Ottosson's OKLCH as sRGB, clipped."""
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    cones = np.array(
        [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.291485548]]
    )
    mix = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.707614701],
        ]
    )
    linear = np.clip(mix @ (cones @ np.array([lightness, a, b])) ** 3, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return "#" + "".join(f"{round(255 * float(value)):02x}" for value in encoded)
