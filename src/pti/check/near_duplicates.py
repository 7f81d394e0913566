"""Search for copies of images, even if they were rescaled, shifted, resized slightly or made noisy.

Each image is cut out around the centre of its tissue to a *portrait* of fixed size, so that a shifted or
resized copy gives the same portrait. Portraits of different patients agree in their coarse form; only copies
also agree in their details, which therefore decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

from pti.check.orientation_map import centred_unit, edge_orientations, pack_map, shrink_map, unpack_map
from pti.check.pair_alignment import correlate
from pti.check.thresholds import THRESHOLDS, robust_std

CELLS = 64  # cells along each axis of a portrait
FORM_CELLS = 16  # cells along each axis of its coarse form
EXTENT = 1.5  # width of a portrait / square root of the tissue's area
CANDIDATES = 3  # number of most similar images of other patients that are compared closely
REACH = 4  # largest displacement of two portraits in cells; cut edges move the centre of a copy


@dataclass(frozen=True)
class Portrait:
    """An image cut out around its tissue.

    Attributes:
        form: (FORM_CELLS²,) float16 of unit length.
        details: packed map of the edges inside the tissue, (CELLS, CELLS, 2) int8.
    """

    form: np.ndarray
    details: np.ndarray


@dataclass(frozen=True)
class Copy:
    """Two images that are copies of each other.

    Attributes:
        first: index of one image.
        second: index of the other image.
        correlation: correlation of their details; 1 for equal details.
    """

    first: int
    second: int
    correlation: float


def make_portrait(scaled: np.ndarray, covered: np.ndarray) -> Portrait | None:
    """Cut an image out around its tissue and resize it; return None if there is hardly any tissue.

    Args:
        scaled: tissue value of each cell, from :func:`pti.check.pair_alignment.reduce_image`.
        covered: covered fraction of each cell, from the same function.
    """
    tissue = covered > 0.5
    area = np.count_nonzero(tissue)
    if area < 16:
        return None
    centre = np.array([axis.mean() for axis in np.nonzero(tissue)])
    step = np.sqrt(area) * EXTENT / CELLS
    image = np.where(tissue, 0.1 + 0.9 * scaled, 0).astype(np.float32)
    offset = centre - step * (CELLS - 1) / 2
    cells = (CELLS, CELLS)
    cut = ndimage.affine_transform(image, np.full(2, step), offset, output_shape=cells, order=1)
    form = centred_unit(shrink_map(cut, FORM_CELLS).ravel())
    return Portrait(form.astype(np.float16), _details(cut))


def _details(cut: np.ndarray) -> np.ndarray:
    """Keep the edges inside the tissue; outlines of different bones are too similar."""
    orientations = edge_orientations(cut)
    orientations[ndimage.uniform_filter((cut > 0.05).astype(np.float32), 5) < 0.999] = 0
    return pack_map(orientations)


def find_copies(portraits: Sequence[Portrait], patients: Sequence[str]) -> list[Copy]:
    """Find images of different patients that are copies of each other, the most similar first.

    Slices of one patient are similar by nature and never compared.

    Args:
        portraits: portraits of the N images.
        patients: patients of the N images.
    """
    if len(set(patients)) < 2:
        return []
    codes = np.unique(patients, return_inverse=True)[1]
    forms = np.stack([portrait.form for portrait in portraits]).astype(np.float32)
    correlations: dict[tuple[int, int], float] = {}
    best: list[float] = []  # correlation of each image with the image that resembles it most
    for row, form in enumerate(forms):
        similarity = forms @ form
        similarity[codes == codes[row]] = -1
        nearest = np.argpartition(-similarity, min(CANDIDATES, len(forms) - 1))[:CANDIDATES]
        close = [int(column) for column in nearest if similarity[column] >= THRESHOLDS.copy_form]
        pairs = [(min(row, column), max(row, column)) for column in close]
        for first, second in pairs:
            if (first, second) not in correlations:
                correlations[first, second] = compare_details(portraits[first], portraits[second])
        best += [max(correlations[pair] for pair in pairs)] if pairs else []
    if not best:
        return []
    usual = np.median(best) + THRESHOLDS.copy_std * robust_std(np.array(best))
    limit = np.clip(usual, THRESHOLDS.copy_details, THRESHOLDS.copy_details_max)
    copies = [Copy(*pair, correlation) for pair, correlation in correlations.items() if correlation > limit]
    return sorted(copies, key=lambda copy: -copy.correlation)


def compare_details(first: Portrait, second: Portrait) -> float:
    """Correlate the details of two portraits at the best displacement up to REACH cells; at most 1."""
    fixed, moving = (unpack_map(portrait.details) for portrait in (first, second))
    return float(correlate(np.asarray(fft.fft2(fixed)), moving, REACH).max())
