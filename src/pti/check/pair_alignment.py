"""Does the target lie where the condition lies, and does it belong to it? Estimates from edges, whatever
the contrast.

Every image is reduced to a *structure map*: the strength of its edges on a coarse grid, saturated so that a
bright crown or filling counts no more than the outline of the bone. What both images of a pair share
(cortical shell, canal, outline) then correlates; what only one of them has (the tooth, another contrast)
adds background and no peak.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import fft, ndimage

GRID = 128  # cells a side of a structure map; a shift is found to about a tenth of a cell
MAP = 64  # cells a side of the map that is kept to compare pairs with each other
REACH = 0.2  # largest shift that is looked for, as a part of the image's longer side
ANGLE = 3.0  # degrees between the rotations that are tried; the parabola through three of them finds the rest
MOST_TURNS = 5  # rotations up to 15 degrees
HALF_EDGE = 0.15  # edge strength, as a part of the tissue's range a cell, that saturates to one half


@dataclass(frozen=True)
class Alignment:
    """The movement that lays the target on its condition, about the target's centre of structure.

    Attributes:
        shift_y_px, shift_x_px: in pixels of the file; positive = the target stands too low, too far right.
        rotation_deg: positive = the target is turned clockwise as seen on the screen.
        score: correlation of the structure maps after the movement, at most 1.
        score_unmoved: the same without any movement.
        confidence: 0 to 1: how far the best place stands above the next best one, elsewhere.
    """

    shift_y_px: float
    shift_x_px: float
    rotation_deg: float
    score: float
    score_unmoved: float
    confidence: float

    @property
    def shift_px(self) -> float:
        """Length of the shift in pixels of the file."""
        return float(np.hypot(self.shift_y_px, self.shift_x_px))


@lru_cache(maxsize=32)
def _reduction(length: int, square: int, cells: int) -> np.ndarray:
    """(cells, length): mean over each cell of an axis of ``length`` pixels, centred in ``square`` pixels."""
    offset = (square - length) // 2
    edges = np.arange(cells + 1) * (square / cells) - offset
    pixel = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return (np.clip(overlap, 0, None) * (cells / square)).astype(np.float32)


def _block_means(pixels: np.ndarray) -> np.ndarray:
    """(GRID, GRID): mean over each cell; what the padding to a square adds counts as 0."""
    height, width = pixels.shape
    if height == width and height % GRID == 0:  # the usual sizes: whole pixels in a cell, four times as fast
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
        Tissue value and covered part of each cell, both (GRID, GRID) float32; values run from 0 (2nd
        percentile of the tissue) to 1 (98th), clipped, and are 0 outside the tissue.
    """
    covered = _block_means((pixels != 0).astype(np.float32))
    inside = covered > 0.02
    if np.count_nonzero(inside) < 16:
        return np.zeros((GRID, GRID), np.float32), np.zeros((GRID, GRID), np.float32)
    sums = _block_means(pixels.astype(np.float32, copy=False))
    values = sums[inside] / covered[inside]
    low, high = np.percentile(values, (2, 98))
    scaled = np.zeros((GRID, GRID), np.float32)
    scaled[inside] = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    return scaled, covered


def structure_map(scaled: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Edge strength, saturated to [0, 1), (GRID, GRID) float32, of what :func:`reduce_image` returns."""
    # A step up to the tissue at its outline, so that dark tissue has an outline as well.
    image = covered * (0.25 + 0.75 * scaled)
    smooth = image.copy()
    smooth[1:-1, 1:-1] = (
        4 * image[1:-1, 1:-1]
        + 2 * (image[:-2, 1:-1] + image[2:, 1:-1] + image[1:-1, :-2] + image[1:-1, 2:])
        + (image[:-2, :-2] + image[:-2, 2:] + image[2:, :-2] + image[2:, 2:])
    ) / 16
    strength = np.zeros_like(image)
    strength[1:-1, 1:-1] = (
        np.hypot(smooth[2:, 1:-1] - smooth[:-2, 1:-1], smooth[1:-1, 2:] - smooth[1:-1, :-2]) / 2
    )
    return strength / (strength + HALF_EDGE / 2)


def shrink_map(structure: np.ndarray, cells: int = MAP) -> np.ndarray:
    """Average a square map over blocks: (cells, cells) float32."""
    block = structure.shape[0] // cells
    return structure.reshape(cells, block, cells, block).mean((1, 3))


def edge_unit(structure: np.ndarray) -> np.ndarray:
    """The map without its mean, at unit length: products of two of them are correlations."""
    centred = structure - structure.mean()
    length = np.linalg.norm(centred)
    return centred / length if length > 0 else centred


def spectrum(image: np.ndarray) -> np.ndarray:
    """Fourier transform of a real image with an even number of columns."""
    return np.asarray(fft.rfft2(image))


def correlate(fixed: np.ndarray, moving: np.ndarray, reach: int) -> np.ndarray:
    """Products of two square images at all shifts up to ``reach`` cells.

    Args:
        fixed, moving: their spectra.
        reach: largest shift.

    Returns:
        (2 reach + 1, 2 reach + 1): the moving image's own displacement; none in the middle.
    """
    surface = np.asarray(fft.irfft2(np.conj(fixed) * moving, s=(len(fixed), len(fixed))))
    return np.roll(surface, (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]


def align(condition: np.ndarray, target: np.ndarray, pixels_per_cell: float = 1.0) -> Alignment | None:
    """Estimate shift and rotation between two structure maps by cross-correlation.

    The correlation is computed for all shifts at once in the Fourier domain; rotations are climbed in steps
    of ANGLE and refined, like the shifts, by a parabola through the best three.

    Args:
        condition, target: structure maps, square, of equal size.
        pixels_per_cell: longer side of the images in pixels / cells of the map.

    Returns:
        The movement, or None when one of the two has no structure.
    """
    if not condition.any() or not target.any():
        return None
    centre = np.array(ndimage.center_of_mass(target))
    fixed, reach = spectrum(edge_unit(condition)), round(len(condition) * REACH)
    tried: dict[int, np.ndarray] = {}

    def score(turn: int) -> float:
        if turn not in tried:
            moved = _turned(target, turn * ANGLE, centre) if turn else target
            tried[turn] = correlate(fixed, spectrum(edge_unit(moved)), reach)
        return _locate(tried[turn])[0]

    best = 0
    while abs(best) < MOST_TURNS:
        turn = max((best, best - 1, best + 1), key=score)
        if turn == best:
            break
        best = turn
    bend = _vertex(score(best - 1), score(best), score(best + 1))
    peak, shift_y, shift_x = _locate(tried[best])
    return Alignment(
        shift_y_px=shift_y * pixels_per_cell,
        shift_x_px=shift_x * pixels_per_cell,
        rotation_deg=(best + bend) * ANGLE,
        score=peak,
        score_unmoved=float(tried[0][reach, reach]),
        confidence=_confidence(tried[best]),
    )


def _turned(structure: np.ndarray, degrees: float, centre: np.ndarray) -> np.ndarray:
    """The map turned back by ``degrees`` (a target turned clockwise by as much comes out upright)."""
    sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    matrix = np.array([[cosine, sine], [-sine, cosine]])
    offset = centre - matrix @ centre
    return ndimage.affine_transform(structure, matrix, offset, order=1)  # pyright: ignore[reportArgumentType]


def _vertex(before: float, peak: float, after: float) -> float:
    """Where the parabola through three equidistant values is highest, in steps from the middle one."""
    curvature = before - 2 * peak + after
    return 0.5 * (before - after) / curvature if curvature < 0 else 0.0


def _locate(window: np.ndarray) -> tuple[float, float, float]:
    """Height and place (down, right) of a correlation window's peak, to a part of a cell."""
    reach = window.shape[0] // 2
    y, x = (int(place) for place in np.unravel_index(int(window.argmax()), window.shape))
    peak, up, left, gained = float(window[y, x]), 0.0, 0.0, 0.0
    if 0 < y < 2 * reach:
        up = _vertex(window[y - 1, x], peak, window[y + 1, x])
        gained += 0.25 * (float(window[y + 1, x]) - float(window[y - 1, x])) * up
    if 0 < x < 2 * reach:
        left = _vertex(window[y, x - 1], peak, window[y, x + 1])
        gained += 0.25 * (float(window[y, x + 1]) - float(window[y, x - 1])) * left
    return peak + gained, float(y - reach + up), float(x - reach + left)


def _confidence(window: np.ndarray) -> float:
    """Lead of the peak over everything more than 6 cells away, as a part of it."""
    y, x = np.unravel_index(int(window.argmax()), window.shape)
    peak = float(window[y, x])
    elsewhere = window.copy()
    elsewhere[max(0, y - 6) : y + 7, max(0, x - 6) : x + 7] = 0
    return float(np.clip(1 - elsewhere.max() / peak, 0, 1)) if peak > 0 else 0.0
