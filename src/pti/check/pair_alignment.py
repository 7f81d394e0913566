"""Alignment of the two images of a pair by the orientation of their edges, independent of their contrast.

Edges of equal orientation correlate; edges that meet by chance (the tooth against the healed bone, noise)
cancel out. That is the measure of Haber and Modersitzki's normalized gradient fields (MICCAI 2006).

The *evidence* for one hypothesis (a displacement, another partner) against another is one number everywhere:
see :func:`evidence`.
"""

import math
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from scipy import fft, ndimage
from scipy.sparse import csr_matrix

from pti.check.orientation_map import unit
from pti.check.thresholds import THRESHOLDS

MAX_SHIFT = 0.2  # largest shift that is searched, as a fraction of the image's longer axis
OFFSET = 0.21  # cells; interpolation there blurs a map as much as a rotation does on average
RIVAL = 1.4  # smallest distance of two separate peaks, cells; nearer ones are the same peak
BLOCK = 8  # cells along each axis of a block of an image, whose edges testify together
ROTATION_STEP = 3.0  # degrees between the rotations tried; a parabola through three of them refines the best
NO_ROTATION = 0.4  # largest rotation, in steps, without evidence; below the limit for a finding
MAX_ROTATION_STEPS = 5  # up to 15 degrees


@dataclass(frozen=True)
class Alignment:
    """Displacement of the target against its condition; rotation about the target's centre of structure.

    Attributes:
        shift_y_px: shift in pixels of the file; positive if the target is too low.
        shift_x_px: shift in pixels of the file; positive if the target is too far right.
        rotation_deg: rotation in degrees; positive if the target is turned clockwise on the screen.
        score: correlation of the orientation maps after the displacement is undone, at most 1.
        evidence: evidence for this displacement against the next best one elsewhere and, if it is rotated by
            more than NO_ROTATION, against no rotation.
    """

    shift_y_px: float
    shift_x_px: float
    rotation_deg: float
    score: float
    evidence: float

    @property
    def shift_px(self) -> float:
        """Length of the shift in pixels of the file."""
        return float(np.hypot(self.shift_y_px, self.shift_x_px))


def correlate(fixed_spectrum: np.ndarray, moving: np.ndarray, reach: int) -> np.ndarray:
    """Correlate two square images of unit length at all (circular) shifts up to ``reach`` cells.

    Args:
        fixed_spectrum: two-dimensional discrete Fourier transform of the fixed image, real or complex.
        moving: the moving image, of the same size.
        reach: largest shift in cells.

    Returns:
        (2 reach + 1, 2 reach + 1), indexed by the displacement of the moving image; none is in the middle.
    """
    spectrum: Any = fft.fft2(moving)
    surface = np.real(np.asarray(fft.ifft2(np.conj(fixed_spectrum) * spectrum)))
    return np.roll(surface, (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]


def testimony(fixed: np.ndarray, moving: np.ndarray, displacement: tuple[int, int]) -> np.ndarray:
    """Split the correlation at one displacement (down, right) by blocks of the fixed map: (blocks,)."""
    down, right = displacement
    products = np.real(np.conj(fixed) * np.roll(moving, (-down, -right), (0, 1)))
    blocks = len(fixed) // BLOCK
    return products.reshape(blocks, BLOCK, blocks, BLOCK).sum((1, 3)).ravel()


def evidence(gains: np.ndarray) -> float:
    """Weigh the gains of correlation, block by block, by which one hypothesis excels another.

    The sum of the gains divided by the root of their sum of squares: a few blocks can't carry it alone,
    however large their gains; n blocks that agree give √n. If neither hypothesis is better, so that each
    block's gain is as likely to be positive as negative, and blocks are independent, it exceeds t with a
    probability of at most exp(-t²/2), whatever the sizes of the gains (de la Peña, Lai and Shao,
    "Self-Normalized Processes", 2009). Where it decides, the null hypothesis (no rotation, the given partner)
    is usually much the better one: see ``suite=check`` of the benchmark for the false alarms that remain.
    """
    return float(gains.sum() / (np.linalg.norm(gains) or 1))


def align(condition: np.ndarray, target: np.ndarray, pixels_per_cell: float = 1.0) -> Alignment | None:
    """Estimate shift and rotation between two orientation maps by cross-correlation.

    The correlation is computed for all shifts at once in the Fourier domain. Rotations are searched by hill
    climbing in steps of ROTATION_STEP and refined, like the shifts, by a parabola through the best three.

    Args:
        condition: orientation map, square.
        target: orientation map of the same size.
        pixels_per_cell: longer axis of the images in pixels / cells along each axis of the map.

    Returns:
        The displacement; None if one of the two images has no structure.
    """
    if not condition.any() or not target.any():
        return None
    strength = np.abs(target)
    down, right = (int(place) for place in np.array(ndimage.center_of_mass(strength)))
    fixed, whole, reach = unit(condition), unit(target), round(len(condition) * MAX_SHIFT)

    @cache
    def moving(step: int) -> np.ndarray:
        # Not scaled again after the rotation: its interpolation averages noise, and a smoother map must not
        # count as better agreement.
        return _rotate_back(whole, step, (down, right))

    spectrum = np.asarray(fft.fft2(fixed))

    @cache
    def window(step: int) -> np.ndarray:
        return correlate(spectrum, moving(step), reach)

    def score(step: int) -> float:
        return _locate_peak(window(step))[0]

    def blocks(step: int) -> np.ndarray:
        return testimony(fixed, moving(step), _highest(window(step)))

    best = 0
    while abs(best) < MAX_ROTATION_STEPS:
        step = max((best, best - 1, best + 1), key=score)
        if step == best:
            break
        best = step
    turned = evidence(blocks(best) - blocks(0)) if best else math.inf
    if turned <= THRESHOLDS.evidence:  # no rotation until the contrary is shown
        best = 0
    most = 0.5 if best else NO_ROTATION
    refinement = min(most, max(-most, _vertex(score(best - 1), score(best), score(best + 1))))
    peak, shift_y, shift_x = _locate_peak(window(best))
    rival = _highest(_elsewhere(window(best), _highest(window(best))))
    lead = evidence(blocks(best) - testimony(fixed, moving(best), rival))
    return Alignment(
        shift_y_px=(shift_y + OFFSET) * pixels_per_cell,
        shift_x_px=(shift_x + OFFSET) * pixels_per_cell,
        rotation_deg=(best + refinement) * ROTATION_STEP,
        score=peak,
        evidence=min(lead, turned) if best else lead,
    )


def _rotate_back(orientations: np.ndarray, step: int, centre: tuple[int, int]) -> np.ndarray:
    """Rotate a map about a cell by ``step`` rotation steps, so that a target turned clockwise is upright."""
    middle = len(orientations) // 2
    offset = (middle - centre[0], middle - centre[1])
    turned = _rotation(len(orientations), step) @ np.roll(orientations, offset, (0, 1)).ravel()
    return np.roll(turned.reshape(orientations.shape), (-offset[0], -offset[1]), (0, 1))


@lru_cache(maxsize=32)
def _rotation(cells: int, step: int) -> csr_matrix:
    """Build the (cells², cells²) bilinear rotation of an orientation map about its middle.

    The result lies OFFSET cells too high and too far left: without that, a rotation by 0 would not
    interpolate, keep the map sharp, and have an advantage over all others.
    """
    angle = np.deg2rad(step * ROTATION_STEP)
    rows, columns = np.mgrid[:cells, :cells].reshape(2, -1) - cells // 2
    down = np.cos(angle) * rows + np.sin(angle) * columns + cells // 2 + OFFSET
    right = np.cos(angle) * columns - np.sin(angle) * rows + cells // 2 + OFFSET
    top, left = np.floor(down).astype(int), np.floor(right).astype(int)
    entries = []
    for y, x in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        weight = (1 - np.abs(down - y)) * (1 - np.abs(right - x))
        inside = (y >= 0) & (y < cells) & (x >= 0) & (x < cells)
        entries.append((weight[inside], np.flatnonzero(inside), (y * cells + x)[inside]))
    weights, targets, sources = (np.concatenate(part) for part in zip(*entries, strict=True))
    turn = np.exp(-2j * angle)
    return csr_matrix(((weights * turn).astype(np.complex64), (targets, sources)), shape=(cells**2, cells**2))


def _vertex(before: float, peak: float, after: float) -> float:
    """Locate the maximum of the parabola through three equidistant values, in steps from the middle one."""
    curvature = before - 2 * peak + after
    return 0.5 * (before - after) / curvature if curvature < 0 else 0.0


def _locate_peak(window: np.ndarray) -> tuple[float, float, float]:
    """Return the height and place (down, right) of a correlation window's peak, to a fraction of a cell."""
    y, x = np.unravel_index(window.argmax(), window.shape)
    height, place = float(window[y, x]), []
    for index, profile in ((int(y), window[:, x]), (int(x), window[y])):
        offset = 0.0
        if 0 < index < len(profile) - 1:
            before, peak, after = (float(value) for value in profile[index - 1 : index + 2])
            offset = _vertex(before, peak, after)
            height += 0.25 * (after - before) * offset
        place.append(index - len(profile) // 2 + offset)
    return height, place[0], place[1]


def _highest(window: np.ndarray) -> tuple[int, int]:
    """Return the displacement (down, right) of a correlation window's highest cell."""
    y, x = np.unravel_index(window.argmax(), window.shape)
    return int(y) - len(window) // 2, int(x) - len(window) // 2


def _elsewhere(window: np.ndarray, place: tuple[int, int]) -> np.ndarray:
    """Blank a correlation window out within RIVAL cells of a displacement."""
    reach = len(window) // 2
    down, right = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    return np.where(np.hypot(down - place[0], right - place[1]) < RIVAL, -np.inf, window)
