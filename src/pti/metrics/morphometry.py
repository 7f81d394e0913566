"""Bone morphometry: the mask of a raw image, the size of the ridge, agreement of two masks."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

FRACTIONS = {"quarter": 0.25, "half": 0.5, "three_quarters": 0.75}
"""Fractions of the bone's height, from the base, at which its width is measured."""

HEIGHTS_MM = (5, 10, 14, 18, 22)
"""Heights above the base at which the width is measured, mm."""


@dataclass(frozen=True)
class Morphometry:
    """Size of one bone. Lengths are in pixels; :meth:`as_dict` adds millimetres. All NaN for an empty mask.

    Attributes:
        pixel_mm: Edge of a pixel, mm.
        height: Number of rows from the base to the crest, both included.
        width_quarter, width_half, width_three_quarters: Widths at fractions of the height from the base.
        width_at_5mm … width_at_22mm: Widths at fixed heights above the base; NaN above the crest.
        area: Number of pixels of the mask (holes are not bone).
        base_row, crest_row: Indices of the lowest and the highest row of the bone, from the top of the image.
        crest_column: Centre of the bone in its highest row, column index.
    """

    pixel_mm: float
    height: float
    width_quarter: float
    width_half: float
    width_three_quarters: float
    width_at_5mm: float
    width_at_10mm: float
    width_at_14mm: float
    width_at_18mm: float
    width_at_22mm: float
    area: float
    base_row: float
    crest_row: float
    crest_column: float

    def as_dict(self) -> dict[str, float]:
        """Return flat columns such as ``height_px``, ``height_mm``, ``width_half_px`` and ``area_mm2``."""
        columns: dict[str, float] = {}
        for name, value in vars(self).items():
            if name.startswith(("height", "width")):
                columns[f"{name}_px"], columns[f"{name}_mm"] = value, value * self.pixel_mm
        columns |= {"area_px": self.area, "area_mm2": self.area * self.pixel_mm**2}
        return columns | {
            name: getattr(self, name) for name in ("base_row", "crest_row", "crest_column", "pixel_mm")
        }


def bone_mask(raw: np.ndarray) -> np.ndarray:
    """Segment the bone, including a tooth, in a raw image; the same rule for true and predicted images.

    The outline is where the image reaches half the typical tissue intensity: the median of all pixels above a
    tenth of the 99.5th percentile of the positive ones (which excludes faint residue in the background), or
    of those below, if most of the tissue is that much darker than a metal crown. Of several parts
    (4 neighbours), those count that tissue connects (a tooth behind its dark ligament); the largest, if that
    can't be decided because the tissue reaches the frame of the image, as residue does. Other tissue, however
    dark or negative, is bone if it lies between these parts both in its row and in its column; background
    (exactly 0) is a hole. The mask doesn't change when the image is multiplied by a positive number.

    Args:
        raw: (H, W), background about 0, outer tissue positive, finite.

    Returns:
        (H, W) bool; empty if no pixel is positive.
    """
    positive = raw[raw > 0]
    if positive.size == 0:
        return np.zeros(raw.shape, bool)
    rank = min(positive.size - 1, int(0.995 * positive.size))
    limit = 0.1 * np.partition(positive, rank)[rank]
    bright = positive[positive > limit]
    above = raw > 0.5 * np.median(bright)
    parts, count = _label(above)
    if count > 1 or positive.size > 2 * bright.size:
        tissue = _largest(*_label(raw != 0))
        if _frame(tissue).any():
            above = _largest(parts, count)
        else:
            faint = raw[tissue & (raw > 0) & (raw <= limit)]
            above = tissue & (raw > 0.5 * np.median(faint) if faint.size > bright.size else above)
    between = raw != 0
    for axis in (0, 1):
        for step in (1, -1):
            way = np.flip(above, axis) if step < 0 else above
            before = np.maximum.accumulate(way, axis)
            between &= np.flip(before, axis) if step < 0 else before
    return above | between


def _label(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Label the connected components of a mask from 1 on; return the labels and their number."""
    labels = np.empty(mask.shape, np.int32)
    ndimage.label(mask, output=labels)
    return labels, int(labels.max())


def _largest(labels: np.ndarray, count: int) -> np.ndarray:
    return labels == (1 if count == 1 else np.bincount(labels[labels > 0]).argmax())


def _frame(image: np.ndarray) -> np.ndarray:
    """Return the pixels of the image's first and last rows and columns."""
    return np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])


def measure(mask: np.ndarray, pixel_mm: float) -> Morphometry:
    """Measure one bone.

    A width is the distance between the outermost pixels of a row, both included, across any holes; between
    the centres of two rows it is interpolated linearly.

    Args:
        mask: (H, W) bool, the base of the bone at the bottom.
        pixel_mm: Edge of a pixel, mm.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return Morphometry(pixel_mm, *[np.nan] * 13)
    crest, base = int(rows[0]), int(rows[-1])
    part = mask[crest : base + 1]
    height = base + 1 - crest
    left, right = _row_ends(part)
    widths = {name: _between_rows(right - left, at) for name, at in _width_heights(height, pixel_mm).items()}
    return Morphometry(
        pixel_mm,
        float(height),
        **widths,
        area=float(part.sum()),
        base_row=float(base),
        crest_row=float(crest),
        crest_column=float(np.flatnonzero(part[0]).mean()),
    )


def width_ends(mask: np.ndarray, pixel_mm: float) -> dict[str, tuple[float, float, float]]:
    """Return where :func:`measure` measures the widths of a bone, to draw them.

    Args:
        mask: (H, W) bool, as for :func:`measure`.
        pixel_mm: Edge of a pixel, mm.

    Returns:
        Name of each width that isn't NaN -> (row, left, right): lengths from the upper left corner of the
        image, in pixels; right − left is the width.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return {}
    crest, base = int(rows[0]), int(rows[-1])
    ends, height = _row_ends(mask[crest : base + 1]), base + 1 - crest
    return {
        name: (base + 1 - at, _between_rows(ends[0], at), _between_rows(ends[1], at))
        for name, at in _width_heights(height, pixel_mm).items()
        if at < height
    }


def _width_heights(height: int, pixel_mm: float) -> dict[str, float]:
    """Return the heights above the base at which a bone's widths are measured, by name, in pixels."""
    heights = {f"width_{name}": fraction * height for name, fraction in FRACTIONS.items()}
    return heights | {f"width_at_{length}mm": length / pixel_mm for length in HEIGHTS_MM}


def _row_ends(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the left edge of each row's first pixel and the right edge of its last; both 0 without any."""
    any_pixel = part.any(axis=1)
    left, right = part.argmax(axis=1), part.shape[1] - part[:, ::-1].argmax(axis=1)
    return np.where(any_pixel, left, 0), np.where(any_pixel, right, 0)


def _between_rows(values: np.ndarray, above_base: float) -> float:
    """Interpolate values of the rows' centres, from the crest down; NaN above the crest."""
    height = len(values)
    if above_base >= height:
        return np.nan
    return float(np.interp(above_base, np.arange(height) + 0.5, values[::-1]))


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Compute the Dice coefficient 2|A∩B| / (|A|+|B|) of two bool masks, in [0, 1]; NaN if both are empty."""
    total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2 * int(np.count_nonzero(a & b)) / total if total else np.nan


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Compute the intersection over union of two bool masks, in [0, 1]; NaN if both are empty."""
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else np.nan


def hausdorff95(a: np.ndarray, b: np.ndarray, pixel_mm: float = 1.0) -> float:
    """Compute the 95 % Hausdorff distance of two masks' border pixels, in the unit of ``pixel_mm``.

    The larger of the two directed 95th percentiles (Huttenlocher et al. 1993, with a percentile instead of
    the maximum).

    Args:
        a: (H, W) bool.
        b: (H, W) bool.
        pixel_mm: Edge of a pixel; 1 gives pixels.

    Returns:
        The distance; NaN if a mask is empty.
    """
    border_a, border_b = _border(a), _border(b)
    if len(border_a) == 0 or len(border_b) == 0:
        return np.nan
    to_b, _ = _tree(border_b).query(border_a)
    to_a, _ = _tree(border_a).query(border_b)
    return float(max(np.percentile(to_b, 95), np.percentile(to_a, 95))) * pixel_mm


def _tree(points: np.ndarray) -> KDTree:
    # For outlines of a thousand pixels, balancing costs more than it saves in the queries.
    return KDTree(points, balanced_tree=False, compact_nodes=False)


def _border(mask: np.ndarray) -> np.ndarray:
    """Positions of the pixels that have one of their 4 neighbours outside the mask or the image, (n, 2)."""
    inner = mask.copy()
    inner[[0, -1]] = inner[:, [0, -1]] = False
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    # Flattened, since np.nonzero is several times slower in two dimensions.
    return np.stack(np.divmod(np.flatnonzero(mask & ~inner), mask.shape[1]), axis=1)
