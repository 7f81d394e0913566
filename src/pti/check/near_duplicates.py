"""Images that are copies of each other, also when scaled, shifted, resized a little or made noisy.

Every image is cut out around its tissue's centre to a *portrait* of fixed size, so that a copy that was
moved or resized gives the same one. Portraits of different patients agree in their large forms; only those
of copies also agree in their details, which is what decides.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from pti.check.pair_alignment import correlate, spectrum

SIDE = 64  # cells a side of a portrait
FORM = 16  # cells a side of its coarse form
EXTENT = 1.5  # side of the portrait / square root of the tissue's area
FORM_FLOOR = 0.95  # copies that were resized by 7 %, shifted and made noisy keep 0.98
LIKENESS_FLOOR = (
    0.65  # different patients reached 0.57 at most, on two kinds of MRI; resized, noisy copies mostly 0.75
)
LIKENESS_CEILING = 0.85  # a set that is full of copies must not raise the bar so high that it hides them
SPREADS = 3.5  # robust standard deviations above what is usual in the set
CANDIDATES = 3  # most similar images of other patients that are looked at closely
REACH = 4  # cells by which two portraits may be displaced: the centres of copies with cut edges differ


@dataclass(frozen=True)
class Portrait:
    """An image cut out around its tissue: form (FORM²,) float16 of unit length, details (SIDE, SIDE) int8."""

    form: np.ndarray
    details: np.ndarray


@dataclass(frozen=True)
class Copy:
    """Two images, by their places in the list, and the correlation of their details (1 = the same)."""

    first: int
    second: int
    likeness: float


def portrait(scaled: np.ndarray, covered: np.ndarray) -> Portrait | None:
    """Cut an image out around its tissue and resize it; None where there is next to no tissue.

    Args:
        scaled, covered: what :func:`pti.check.pair_alignment.reduce_image` returns.
    """
    tissue = covered > 0.5
    area = np.count_nonzero(tissue)
    if area < 16:
        return None
    centre = np.array([axis.mean() for axis in np.nonzero(tissue)])
    step = np.sqrt(area) * EXTENT / SIDE
    image = np.where(tissue, 0.1 + 0.9 * scaled, 0).astype(np.float32)
    offset = centre - step * (SIDE - 1) / 2
    cut = ndimage.affine_transform(
        image,
        (step, step),
        offset,
        output_shape=(SIDE, SIDE),
        order=1,  # pyright: ignore[reportArgumentType]
    )
    form = _unit(cut.reshape(FORM, SIDE // FORM, FORM, SIDE // FORM).mean((1, 3)).ravel(), centred=True)
    return Portrait(form.astype(np.float16), _details(cut))


def _details(cut: np.ndarray) -> np.ndarray:
    """What is finer than 7 cells, inside the tissue: the outlines of different bones resemble each other."""
    tissue = (cut > 0.05).astype(np.float32)
    fine = cut - ndimage.uniform_filter(cut, 7) / np.maximum(ndimage.uniform_filter(tissue, 7), 0.1)
    fine[ndimage.uniform_filter(tissue, 5) < 0.999] = 0
    return np.round(fine * (127 / max(np.abs(fine).max(), 1e-6))).astype(np.int8)


def _unit(values: np.ndarray, centred: bool = False) -> np.ndarray:
    values = values.astype(np.float32)
    values = values - values.mean() if centred else values
    length = np.linalg.norm(values)
    return values / length if length > 0 else values


def find_same_pixels(digests: Sequence[bytes | None]) -> list[list[int]]:
    """Groups of places whose digests are equal; None stands for an image that is not compared."""
    places: dict[bytes, list[int]] = defaultdict(list)
    for place, digest in enumerate(digests):
        if digest is not None:
            places[digest].append(place)
    return [group for group in places.values() if len(group) > 1]


def find_copies(portraits: Sequence[Portrait | None], patients: Sequence[str]) -> list[Copy]:
    """Find images of different patients that are copies of each other; the likest first.

    Slices of one patient are alike by nature and never compared.

    Args:
        portraits: the N images' portraits; None is left out.
        patients: the N images' patients.
    """
    places = [place for place, found in enumerate(portraits) if found is not None]
    usable = [found for found in portraits if found is not None]
    codes = np.unique([patients[place] for place in places], return_inverse=True)[1]
    if len(usable) < 2 or codes.max() == 0:
        return []
    forms = np.stack([found.form for found in usable]).astype(np.float32)
    likeness: dict[tuple[int, int], float] = {}
    best: dict[int, float] = {}
    for row in range(len(usable)):
        similarity = forms @ forms[row]
        similarity[codes == codes[row]] = -1
        for column in np.argpartition(-similarity, min(CANDIDATES, len(usable) - 1))[:CANDIDATES]:
            if similarity[column] < FORM_FLOOR:
                continue
            pair = (min(row, int(column)), max(row, int(column)))
            if pair not in likeness:
                likeness[pair] = compare(usable[row], usable[int(column)])
            best[row] = max(best.get(row, 0.0), likeness[pair])
    bar = _bar(np.array(list(best.values())))
    found = [Copy(places[a], places[b], value) for (a, b), value in likeness.items() if value > bar]
    return sorted(found, key=lambda copy: -copy.likeness)


def compare(first: Portrait, second: Portrait) -> float:
    """Correlation of two portraits' details at the best displacement up to REACH cells; at most 1."""
    one, two = spectrum(_unit(first.details)), spectrum(_unit(second.details))
    return float(correlate(one, two, REACH).max())


def _bar(best: np.ndarray) -> float:
    """The likeness from which on two images count as copies: far above what is usual in this set."""
    if best.size == 0:
        return LIKENESS_FLOOR
    usual = np.median(best)
    spread = 1.4826 * np.median(np.abs(best - usual))
    return float(np.clip(usual + SPREADS * spread, LIKENESS_FLOOR, LIKENESS_CEILING))
