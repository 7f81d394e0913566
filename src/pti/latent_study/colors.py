"""Colours of the study, the same in figures and on pages."""

from __future__ import annotations

import math

import numpy as np

from pti.latent_study.latents import Latents

# Okabe & Ito: distinguishable with every kind of colour vision.
GROUP_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b08a00", "#56b4e9")
UNKNOWN = "#9aa0a8"
"""Colour of images without a value."""

SCALE = ("#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39")
"""Colours of an attribute from its lowest to its highest value: viridis without its ends."""

_SCALE_PERCENTILES = (1, 99)


def distinct_colors(count: int) -> list[str]:
    """Return colours ``#rrggbb`` whose neighbours differ clearly: hues at the golden angle."""
    lightness, chroma = (0.62, 0.5, 0.72), (0.16, 0.13)
    return [_oklch(lightness[n % 3], chroma[n % 2], math.radians(n * 137.508 + 25)) for n in range(count)]


def palette(latents: Latents, label: str) -> dict[str, str]:
    """Map each value of a text column to a colour, except for the empty value, which is `UNKNOWN`."""
    values = sorted(set(getattr(latents, label).tolist()) - {""})
    if label == "group" and len(values) <= len(GROUP_COLORS):
        return dict(zip(values, GROUP_COLORS, strict=False))
    return dict(zip(values, distinct_colors(len(values)), strict=True))


def color_limits(values: np.ndarray) -> tuple[float, float]:
    """Return the values of the first and the last colour: percentiles, which outliers don't affect."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(finite, _SCALE_PERCENTILES))
    return (low, high) if high > low else (low, low + 1.0)


def _oklch(lightness: float, chroma: float, hue: float) -> str:
    """Convert Ottosson's OKLCH to sRGB, clipped to its gamut."""
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
