"""Search for copies of images, even if they were rescaled, shifted, resized slightly or made noisy.

Each image is cut out around the centre of its tissue to a *portrait* of fixed size, so that a shifted or
resized copy gives the same portrait. Portraits of different patients agree in their coarse form; only copies
also agree in their details, which therefore decide.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from pti.check.pair_alignment import centred_unit, correlate, shrink_map, spectrum
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
        details: (CELLS, CELLS) int8.
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
    cut = ndimage.affine_transform(
        image,
        (step, step),
        offset,
        output_shape=(CELLS, CELLS),
        order=1,  # pyright: ignore[reportArgumentType]
    )
    form = centred_unit(shrink_map(cut, FORM_CELLS).ravel())
    return Portrait(form.astype(np.float16), _details(cut))


def _details(cut: np.ndarray) -> np.ndarray:
    """Keep structures finer than 7 cells inside the tissue; outlines of different bones are too similar."""
    tissue = (cut > 0.05).astype(np.float32)
    fine = cut - ndimage.uniform_filter(cut, 7) / np.maximum(ndimage.uniform_filter(tissue, 7), 0.1)
    fine[ndimage.uniform_filter(tissue, 5) < 0.999] = 0
    return np.round(fine * (127 / max(np.abs(fine).max(), 1e-6))).astype(np.int8)


def find_same_pixels(digests: Sequence[bytes | None]) -> list[list[int]]:
    """Group the indices of equal digests; images with the digest None are not compared."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for index, digest in enumerate(digests):
        if digest is not None:
            groups[digest].append(index)
    return [group for group in groups.values() if len(group) > 1]


def find_copies(portraits: Sequence[Portrait | None], patients: Sequence[str]) -> list[Copy]:
    """Find images of different patients that are copies of each other, the most similar first.

    Slices of one patient are similar by nature and never compared.

    Args:
        portraits: portraits of the N images; None is skipped.
        patients: patients of the N images.
    """
    usable = [(index, portrait) for index, portrait in enumerate(portraits) if portrait is not None]
    codes = np.unique([patients[index] for index, _ in usable], return_inverse=True)[1]
    if len(usable) < 2 or codes.max() == 0:
        return []
    forms = np.stack([portrait.form for _, portrait in usable]).astype(np.float32)
    correlations: dict[tuple[int, int], float] = {}
    best: dict[int, float] = {}
    for row in range(len(usable)):
        similarity = forms @ forms[row]
        similarity[codes == codes[row]] = -1
        for column in np.argpartition(-similarity, min(CANDIDATES, len(usable) - 1))[:CANDIDATES]:
            if similarity[column] < THRESHOLDS.copy_form:
                continue
            pair = (min(row, int(column)), max(row, int(column)))
            if pair not in correlations:
                correlations[pair] = compare_details(usable[row][1], usable[int(column)][1])
            best[row] = max(best.get(row, 0.0), correlations[pair])
    limit = _copy_limit(np.array(list(best.values())))
    copies = [
        Copy(usable[first][0], usable[second][0], correlation)
        for (first, second), correlation in correlations.items()
        if correlation > limit
    ]
    return sorted(copies, key=lambda copy: -copy.correlation)


def compare_details(first: Portrait, second: Portrait) -> float:
    """Correlate the details of two portraits at the best displacement up to REACH cells; at most 1."""
    fixed, moving = (spectrum(_unit(portrait.details)) for portrait in (first, second))
    return float(correlate(fixed, moving, REACH).max())


def _unit(details: np.ndarray) -> np.ndarray:
    values = details.astype(np.float32)
    length = np.linalg.norm(values)
    return values / length if length > 0 else values


def _copy_limit(best: np.ndarray) -> float:
    """Set the correlation from which on two images count as copies, far above the usual one of this set."""
    if best.size == 0:
        return THRESHOLDS.copy_details
    usual = float(np.median(best) + THRESHOLDS.copy_std * robust_std(best))
    return float(np.clip(usual, THRESHOLDS.copy_details, THRESHOLDS.copy_details_max))
