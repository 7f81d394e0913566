"""Simple features of raw images, by which images of another kind, scanner, unit or orientation differ.

Each feature vector describes one aspect of a raw image (S, S), background exactly 0. Their distances from the
training images are compared in `pti.metrics.novelty`.
"""

import numpy as np

GRID = 4
"""Parts of the image along each axis, over which layout and change are averaged."""

_QUANTILES = (1, 5, 25, 50, 75, 95, 99)  # percent of the tissue's pixels
_DIRECTIONS = 8
_MAGNITUDES = (10, 50, 90)  # percentiles of the gradients' magnitudes
_EPSILON = 1e-4  # of the tissue's range: gradients below are flat


def intensity_features(raw: np.ndarray) -> np.ndarray:
    """Compute quantiles of the tissue, (7,) raw units, which show a wrong unit or scanner; or 0 each."""
    tissue = raw[raw != 0]
    return np.percentile(tissue, _QUANTILES) if tissue.size else np.zeros(len(_QUANTILES))


def layout_features(raw: np.ndarray) -> np.ndarray:
    """Compute the share of tissue in each of 4 × 4 parts, (16,): size, position and orientation."""
    return _averages(raw != 0)


def edge_features(raw: np.ndarray) -> np.ndarray:
    """Compute directions and strengths of the edges inside the tissue, (12,).

    The eight directions of the gradient, weighted by its magnitude, show an image that is upside down or
    inverted. Logarithms of three percentiles of the magnitude and of the mean absolute Laplacian show another
    sharpness or noise; both are divided by the range of the tissue, so that no unit matters.
    """
    low, high = intensity_features(raw)[[1, -2]]
    image = raw / max(high - low, np.finfo(np.float32).tiny)
    tissue = np.pad(raw != 0, 1)
    inside = tissue[1:-1, 1:-1] & tissue[2:, 1:-1] & tissue[:-2, 1:-1] & tissue[1:-1, 2:] & tissue[1:-1, :-2]
    down, right = (gradient[inside] for gradient in np.gradient(image))
    magnitude = np.hypot(down, right)
    if not magnitude.any():
        return np.concatenate([np.zeros(_DIRECTIONS), np.full(len(_MAGNITUDES) + 1, np.log(_EPSILON))])
    angles = np.arctan2(down, right)
    directions = np.histogram(angles, _DIRECTIONS, (-np.pi, np.pi), weights=magnitude)[0] / magnitude.sum()
    padded = np.pad(image, 1)
    neighbours = padded[2:, 1:-1] + padded[:-2, 1:-1] + padded[1:-1, 2:] + padded[1:-1, :-2]
    laplacian = np.abs(4 * image - neighbours)[inside].mean()
    strengths = [*np.percentile(magnitude, _MAGNITUDES), laplacian]
    return np.concatenate([directions, np.log(np.array(strengths) + _EPSILON)])


def change_features(condition: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """Compute the change of the tissue's share and of the mean value in each of 4 × 4 parts, (32,).

    Args:
        condition: (S, S) raw.
        answer: (S, S) raw, of the same place and unit.
    """
    share = layout_features(answer) - layout_features(condition)
    return np.concatenate([share, _averages(answer.astype(np.float64) - condition)])


def disagreement(condition: np.ndarray, answers: np.ndarray) -> float:
    """Compute the root mean variance (n − 1) of at least two answers (K, S, S) over the tissue, raw units."""
    tissue = (condition != 0) | (answers != 0).any(axis=0)
    variance = answers.astype(np.float64).var(axis=0, ddof=1)[tissue]
    return float(np.sqrt(variance.mean())) if variance.size else 0.0


def _averages(image: np.ndarray) -> np.ndarray:
    rows = np.array_split(image, GRID)
    return np.array([part.mean() for row in rows for part in np.array_split(row, GRID, axis=1)])
