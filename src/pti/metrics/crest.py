"""Roughness of the crest: the short waves of the bone's outline at its top, as in surface metrology.

A roughness profile (ISO 21920-2) is an outline without its finest waves, here the steps of pixels, minus its
form. Both filters are Gaussians, of :data:`FINE_MM` and :data:`FORM_MM`. The deviation from the form is
measured at right angles to the outline, so that slopes and overhangs don't matter. All lengths are in
millimetres: a crest is a physical thing, and the value must not depend on the field of view.

Median ratios to the true images of two kinds of phantom: smooth samples 1.3 and 1.5, samples that look ragged
2.4 and 4.4, columns moved at random by up to a pixel 2.4 and 2.7 (scanners and jaws drawn at random: 1.7),
images reduced to half their pixels and enlarged again 1.4 and 2.4. A FINE_MM of 0.15 to 0.3 and a FORM_MM of
0.4 to 0.9 keep smooth and ragged samples apart. The outlines of brains in MRI are too rough (0.12 mm; bones
of phantoms 0.015 mm) to show moved columns: they change the value by at most 2 %.
"""

import math

import numpy as np
from scipy import ndimage
from scipy.special import ndtri

FINE_MM = 0.2
"""Standard deviation of the Gaussian that removes the steps of pixels, mm; at least a pixel."""

FORM_MM = 0.6
"""Standard deviation of the Gaussian that leaves only the form of the crest, mm; 3 times the fine one."""

DEPTH_MM = 3.0
"""Depth of the crest below its highest point, mm; 15 times the fine Gaussian."""

OUTER = 1 / 8
"""Share of the crest's width that is left out on either side, where the crest ends in a corner."""

_TRUNCATE = 4  # of a Gaussian, standard deviations
_LARGEST = 3  # deviation from the form, standard deviations of its Gaussian


def crest_roughness(mask: np.ndarray, pixel_mm: float) -> float:
    """Measure the root mean square roughness Rq (ISO 21920-2) of a bone's crest, mm.

    The crest is the outline of the largest part of the mask (4 neighbours), holes filled, down to
    :data:`DEPTH_MM` below its highest point and without :data:`OUTER` of its width on either side. The form
    follows from the mask blurred by F = :data:`FORM_MM`: at a distance d from a straight edge it is Φ(d / F),
    so an outline point where it is v deviates by F·Φ⁻¹(v). With pixels larger than :data:`FINE_MM`, all three
    lengths grow with them. A wave of amplitude a and length L contributes a/√2 times
    exp(−2(π·FINE_MM/L)²) − exp(−2(π·FORM_MM/L)²): 0.45 at L = 1 mm, 0.66 at 1.5 mm, 0.56 at 2.5 mm.

    Args:
        mask: (H, W) bool, the crest at the top.
        pixel_mm: Edge of a pixel, mm.

    Returns:
        0 for a straight crest; NaN without bone, or if its crest is narrower or lower than two F.
    """
    labels = np.empty(mask.shape, np.int32)
    ndimage.label(mask, output=labels)
    if not labels.any():
        return math.nan
    fine = max(FINE_MM / pixel_mm, 1.0)  # pixels
    form, depth = fine * FORM_MM / FINE_MM, fine * DEPTH_MM / FINE_MM
    bone = _largest_part(labels, math.ceil(_TRUNCATE * form) + 1)
    smooth, coarse = (
        ndimage.gaussian_filter(bone, sigma, mode="constant", truncate=_TRUNCATE) for sigma in (fine, form)
    )
    rows, columns = _outline(smooth)
    if rows.size == 0:
        return math.nan
    upper = rows <= rows.min() + depth
    rows, columns = rows[upper], columns[upper]
    left, right = columns.min(), columns.max()
    if right - left < 2 * form or bone.any(axis=1).sum() < 2 * form:
        return math.nan
    inner = np.abs(columns - (left + right) / 2) <= (0.5 - OUTER) * (right - left)
    values = ndimage.map_coordinates(coarse, [rows[inner], columns[inner]], order=1)
    deviation = np.clip(ndtri(values), -_LARGEST, _LARGEST) * form
    return float(deviation.std()) * pixel_mm


def _largest_part(labels: np.ndarray, margin: int) -> np.ndarray:
    """Cut out the largest part, holes filled: float32 with ``margin`` pixels of background on each side."""
    part = labels == np.bincount(labels[labels > 0]).argmax()
    rows, columns = (np.flatnonzero(part.any(axis=axis)) for axis in (1, 0))
    part = ndimage.binary_fill_holes(part[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    return np.pad(np.asarray(part, np.float32), margin)


def _outline(smooth: np.ndarray, level: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns, (n,) each, where an image (H, W) crosses a level between two neighbours."""
    above = smooth >= level
    points = []
    for axis in (0, 1):
        before, after = (slice(None, -1), slice(1, None))
        first, second = ((at, slice(None)) if axis == 0 else (slice(None), at) for at in (before, after))
        place = np.nonzero(above[first] != above[second])
        start, end = smooth[first][place], smooth[second][place]
        point = [position.astype(np.float64) for position in place]
        point[axis] += (level - start) / (end - start)
        points.append(point)
    rows, columns = (np.concatenate(parts) for parts in zip(*points, strict=True))
    return rows, columns
