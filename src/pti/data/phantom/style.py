"""Style of a phantom: the scanner, and the kind of jaws in front of it."""

import random
from dataclasses import dataclass

_RANGES = {
    "scale": (1e-6, 6.0),
    "offset_hu": (150.0, 8000.0),
    "saturation_hu": (2000.0, 30000.0),
    "noise_hu": (4.0, 90.0),
    "blur_mm": (0.05, 0.35),
    "gain": (0.0, 0.1),
    "grain": (0.6, 1.8),
    "cortex": (0.5, 1.6),
    "molars": (0.0, 1.0),
    "two_roots": (0.0, 1.0),
    "metal": (0.0, 1.0),
    "tilt": (-12.0, 12.0),
    "place_x": (-1.0, 1.0),
    "place_y": (-1.0, 1.0),
    "jaw_size": (0.4, 1.2),
    "field": (1.0, 2.0),
}
"""Smallest and largest value of each key: those that one of the scanners drawn by `random_style` may have."""


@dataclass(frozen=True)
class Style:
    """What all images of a phantom have in common. The defaults are a clinical scanner and adult jaws.

    Attributes:
        scale: Raw units per Hounsfield unit: raw = scale · (HU + offset_hu).
        offset_hu: Offset of the raw values, HU. A small one makes marrow almost as dark as the background
            (0), a large one makes all tissue almost equally bright.
        saturation_hu: Largest value that the scanner stores, HU.
        noise_hu: Standard deviation of the noise, HU.
        blur_mm: Standard deviation of the point spread, mm in an adult jaw.
        gain: Largest deviation of a patient's scale from ``scale``, as a fraction of it.
        grain: Distance between trabeculae, relative to the default.
        cortex: Thickness of the cortex, relative to the default.
        molars: Share of the patients whose tooth is a molar; the others' is a premolar.
        two_roots: Share of the patients whose tooth has two roots.
        metal: Share of the patients whose tooth has a metal crown.
        tilt: Angle of the jaw to the vertical, degrees, to the lingual. Rows are displaced: heights and
            widths remain.
        place_x: Horizontal place of the jaw in the free part of the image, -1 (left) to 1 (right).
        place_y: Vertical place, -1 (bottom) to 1 (top).
        jaw_size: Size of the jaws relative to an adult's. Pixels shrink with them.
        field: Field of view, relative to the smallest one: 2 fills a quarter of the image that 1 fills.
    """

    scale: float = 1.0
    offset_hu: float = 2000.0
    saturation_hu: float = 30000.0
    noise_hu: float = 14.0
    blur_mm: float = 0.11
    gain: float = 0.015
    grain: float = 1.0
    cortex: float = 1.0
    molars: float = 0.5
    two_roots: float = 0.0
    metal: float = 0.0
    tilt: float = 0.0
    place_x: float = 0.0
    place_y: float = 0.0
    jaw_size: float = 1.0
    field: float = 1.0

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}={getattr(self, name)}: expected {low:g} to {high:g}.")


DEFAULT = Style()

_LOGARITHMIC = (
    *("scale", "offset_hu", "saturation_hu", "noise_hu", "blur_mm", "grain", "cortex", "jaw_size"),
    "field",
)
_RARE = ("metal", "two_roots")


def random_style(seed: int, **fixed: float) -> Style:
    """Draw one scanner: each key independently from its range, ratios and units logarithmically.

    Half of the scanners see no metal crowns, half of them no teeth with two roots.

    Args:
        seed: Seed of the scanner.
        fixed: Values of keys that are not drawn.
    """
    draw = random.Random(f"style {seed}")  # from the standard library: equal on every machine
    values = {}
    for name, (low, high) in _RANGES.items():
        share, rare = draw.random(), draw.random() < 0.5
        values[name] = low * (high / low) ** share if name in _LOGARITHMIC else low + (high - low) * share
        if name in _RARE and rare:
            values[name] = 0.0
    return Style(**{name: float(f"{value:.4g}") for name, value in values.items()} | fixed)
