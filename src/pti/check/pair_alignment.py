"""Alignment of the two images of a pair by their edges, independent of their contrast.

Each image is reduced to a *structure map*: the strength of its edges on a coarse grid, saturated so that a
bright crown or filling counts no more than the outline of the bone. Structures of both images (cortical
shell, canal, outline) then correlate, whereas those of only one image (the tooth, another contrast) raise the
background of the correlation but cause no peak.
"""

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from scipy import fft, ndimage

GRID = 128  # cells along each axis of a structure map; shifts are accurate to about a tenth of a cell
SMALL_GRID = 64  # cells along each axis of the map that is kept to compare pairs with each other
MAX_SHIFT = 0.2  # largest shift that is searched, as a fraction of the image's longer axis
ROTATION_STEP = 3.0  # degrees between the rotations tried; a parabola through three of them refines the best
MAX_ROTATION_STEPS = 5  # up to 15 degrees
HALF_EDGE = 0.15  # edge strength that saturates to one half, as a fraction of the tissue's range per cell


@dataclass(frozen=True)
class Alignment:
    """Displacement of the target against its condition; rotation about the target's centre of structure.

    Attributes:
        shift_y_px: shift in pixels of the file; positive if the target is too low.
        shift_x_px: shift in pixels of the file; positive if the target is too far right.
        rotation_deg: rotation in degrees; positive if the target is turned clockwise on the screen.
        score: correlation of the structure maps after the displacement is undone, at most 1.
        confidence: lead of the best shift over the next best one elsewhere, 0 to 1.
    """

    shift_y_px: float
    shift_x_px: float
    rotation_deg: float
    score: float
    confidence: float

    @property
    def shift_px(self) -> float:
        """Length of the shift in pixels of the file."""
        return float(np.hypot(self.shift_y_px, self.shift_x_px))


@lru_cache(maxsize=32)
def _reduction(length: int, square: int, cells: int) -> np.ndarray:
    """Build a (cells, length) matrix that averages ``length`` pixels, centred in ``square``, over cells."""
    offset = (square - length) // 2
    edges = np.arange(cells + 1) * (square / cells) - offset
    pixel = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return (np.clip(overlap, 0, None) * (cells / square)).astype(np.float32)


def _block_means(pixels: np.ndarray) -> np.ndarray:
    """Average (H, W) pixels, padded with 0 to a square, over each cell of (GRID, GRID)."""
    height, width = pixels.shape
    if height == width and height % GRID == 0:  # usual sizes, whole pixels in a cell: four times as fast
        step = height // GRID
        parts = [pixels[row::step, column::step] for row in range(step) for column in range(step)]
        return np.add.reduce(parts) / step**2
    square = max(height, width)
    return _reduction(height, square, GRID) @ pixels @ _reduction(width, square, GRID).T


def reduce_image(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average a raw image over a coarse square grid.

    Args:
        pixels: (H, W) float32, raw, background exactly 0.

    Returns:
        Tissue value and covered fraction of each cell, both (GRID, GRID) float32. Values are scaled from 0
        (2nd percentile of the tissue) to 1 (98th percentile), clipped, and 0 outside the tissue.
    """
    covered = _block_means((pixels != 0).astype(np.float32))
    scaled = np.zeros((GRID, GRID), np.float32)
    inside = covered > 0.02
    if np.count_nonzero(inside) < 16:
        return scaled, scaled
    sums = _block_means(pixels.astype(np.float32, copy=False))
    values = sums[inside] / covered[inside]
    low, high = np.percentile(values, (2, 98))
    scaled[inside] = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    return scaled, covered


def structure_map(scaled: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Compute the edge strength, saturated to [0, 1), (GRID, GRID) float32, of a reduced image.

    Args:
        scaled: tissue value of each cell, from :func:`reduce_image`.
        covered: covered fraction of each cell, from :func:`reduce_image`.
    """
    # Tissue starts at 0.25, so that dark tissue has an outline as well.
    smooth = covered * (0.25 + 0.75 * scaled)
    for axis in (0, 1):
        smooth = ndimage.correlate1d(smooth, (0.25, 0.5, 0.25), axis, mode="nearest")
    down, right = np.gradient(smooth)
    strength = np.pad(np.hypot(down, right)[1:-1, 1:-1], 1)  # the border of the image is not an edge
    return strength / (strength + HALF_EDGE / 2)


def shrink_map(structure: np.ndarray, cells: int = SMALL_GRID) -> np.ndarray:
    """Average a square map over blocks: (cells, cells) float32."""
    block = structure.shape[0] // cells
    return structure.reshape(cells, block, cells, block).mean((1, 3))


def unit(values: np.ndarray) -> np.ndarray:
    """Scale to unit length; zeros stay zeros."""
    return values / (np.linalg.norm(values) or 1)


def centred_unit(structure: np.ndarray) -> np.ndarray:
    """Centre a map and scale it to unit length, so that the product of two maps is their correlation."""
    return unit(structure - structure.mean())


def correlate(fixed: np.ndarray, moving: np.ndarray, reach: int) -> np.ndarray:
    """Correlate two square images of unit length at all (circular) shifts up to ``reach`` cells.

    Args:
        fixed: the fixed image; its size is even.
        moving: the moving image, of the same size.
        reach: largest shift in cells.

    Returns:
        (2 reach + 1, 2 reach + 1), indexed by the displacement of the moving image; none is in the middle.
    """
    fixed_spectrum, moving_spectrum = np.asarray(fft.rfft2(np.stack((fixed, moving))))
    surface = np.asarray(fft.irfft2(np.conj(fixed_spectrum) * moving_spectrum))
    return np.roll(surface, (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]


def align(condition: np.ndarray, target: np.ndarray, pixels_per_cell: float = 1.0) -> Alignment | None:
    """Estimate shift and rotation between two structure maps by cross-correlation.

    The correlation is computed for all shifts at once in the Fourier domain. Rotations are searched by hill
    climbing in steps of ROTATION_STEP and refined, like the shifts, by a parabola through the best three.

    Args:
        condition: structure map, square.
        target: structure map of the same size.
        pixels_per_cell: longer axis of the images in pixels / cells along each axis of the map.

    Returns:
        The displacement; None if one of the two images has no structure.
    """
    if not condition.any() or not target.any():
        return None
    centre = np.array(ndimage.center_of_mass(target))
    fixed, reach = centred_unit(condition), round(len(condition) * MAX_SHIFT)

    @cache
    def window(step: int) -> np.ndarray:
        moved = _rotate_back(target, step * ROTATION_STEP, centre) if step else target
        return correlate(fixed, centred_unit(moved), reach)

    def score(step: int) -> float:
        return _locate_peak(window(step))[0]

    best = 0
    while abs(best) < MAX_ROTATION_STEPS:
        step = max((best, best - 1, best + 1), key=score)
        if step == best:
            break
        best = step
    refinement = _vertex(score(best - 1), score(best), score(best + 1))
    peak, shift_y, shift_x = _locate_peak(window(best))
    return Alignment(
        shift_y_px=shift_y * pixels_per_cell,
        shift_x_px=shift_x * pixels_per_cell,
        rotation_deg=(best + refinement) * ROTATION_STEP,
        score=peak,
        confidence=_confidence(window(best)),
    )


def _rotate_back(structure: np.ndarray, degrees: float, centre: np.ndarray) -> np.ndarray:
    """Rotate a map anticlockwise by ``degrees`` (a target turned clockwise by that angle becomes upright)."""
    sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    matrix = np.array([[cosine, sine], [-sine, cosine]])
    offset = centre - matrix @ centre
    return ndimage.affine_transform(structure, matrix, offset, order=1)  # pyright: ignore[reportArgumentType]


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


def _confidence(window: np.ndarray) -> float:
    """Compute the lead of the peak over everything more than 6 cells away, as a fraction of the peak."""
    y, x = np.unravel_index(window.argmax(), window.shape)
    elsewhere = window.copy()
    elsewhere[max(0, y - 6) : y + 7, max(0, x - 6) : x + 7] = 0
    peak = window[y, x]
    return float(np.clip(1 - elsewhere.max() / peak, 0, 1)) if peak > 0 else 0.0
