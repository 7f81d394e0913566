"""Fine structure of an image, such as trabeculae and grain, and its agreement with that of a true image.

The fine structure of an image I with tissue M (its values other than 0) is I − (G∗MI)/(G∗M), with a
Gaussian G of :data:`BLUR`. It is compared where both images are tissue to a depth of two standard deviations
of G, so that the position of the surface isn't texture.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import ndimage

BLUR = 3 / 256
"""Standard deviation of the Gaussian as a fraction of the longer edge: 1.5 pixels of 128."""

DEEP = 0.977
"""Fraction of the Gaussian's weight on tissue, two standard deviations from a straight edge."""


class FineStructure(NamedTuple):
    """Fine structure (H, W) of a raw image, 0 elsewhere, and the pixels deep in its tissue, bool."""

    values: np.ndarray
    deep: np.ndarray


class TextureAgreement(NamedTuple):
    """Agreement of two fine structures.

    Attributes:
        amplitude: standard deviation divided by that of the true one; 0 where the true one has none.
        correlation: Pearson correlation of the two; 0 if one of them is constant or empty.
    """

    amplitude: float
    correlation: float


def fine_structure(image: np.ndarray) -> FineStructure:
    """Separate the fine structure of a raw image (H, W), background 0, from its coarse structure."""
    tissue = (image != 0).astype(np.float32)
    weight, coarse = (
        ndimage.gaussian_filter(values, BLUR * max(image.shape), mode="constant", output=np.float32)
        for values in (tissue, image)
    )
    deep = (tissue > 0) & (weight > DEEP)
    return FineStructure(np.where(deep, image - coarse / np.maximum(weight, DEEP), 0), deep)


def texture_agreement(true: np.ndarray, image: np.ndarray) -> TextureAgreement:
    """Compare the fine structure of a raw image (H, W) with that of the true one; NaN without deep tissue."""
    expected, found = fine_structure(true), fine_structure(image)
    if not expected.deep.any():
        return TextureAgreement(math.nan, math.nan)
    at = expected.deep & found.deep
    return compare_texture(found.values[at], expected.values[at])


def compare_texture(own: np.ndarray, true: np.ndarray) -> TextureAgreement:
    """Compare the fine structures (n,) of the same n pixels of two images."""
    spread = true.std() if true.size else 0.0
    return TextureAgreement(float(own.std() / spread) if spread else 0.0, correlation(own, true))


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson correlation of (n,) and (n,); 0 if one of them is constant or empty."""
    if not (one.size and one.std() and other.std()):
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])
