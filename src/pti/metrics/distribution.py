"""Distances between two sets of images, by features of them: KID, FID."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SUBSETS = 100


@dataclass(frozen=True)
class Distances:
    """How far a set of predictions lies from the true images of the same slices.

    Attributes:
        features: which network's.
        kid: kernel distance; about 0 for equal distributions, also below.
        kid_std: its standard deviation between random halves of the patients.
        kid_floor: the same between two halves of the patients of the true images (mean over random halves).
        fid: Fréchet distance; strongly biased upwards at a few hundred images.
        fid_floor: the same between two halves of the true images: what FID calls equal here.
        count: images on each side.
    """

    features: str
    kid: float
    kid_std: float
    kid_floor: float
    fid: float
    fid_floor: float
    count: int


def kid(x: np.ndarray, y: np.ndarray) -> float:
    """Kernel inception distance: unbiased squared MMD with (x·y / D + 1)³ (Bińkowski et al. 2018).

    Args:
        x: (N, D), N at least 2.
        y: (M, D), M at least 2.
    """
    (n, size), m = x.shape, len(y)
    within_x, within_y, across = ((a @ b.T / size + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    own = (within_x.sum() - np.trace(within_x)) / (n * (n - 1))
    other = (within_y.sum() - np.trace(within_y)) / (m * (m - 1))
    return float(own + other - 2 * across.mean())


def fid(x: np.ndarray, y: np.ndarray) -> float:
    """Fréchet distance of two normal distributions with the sets' means and covariances (Heusel et al. 2017).

    Args:
        x: (N, D), N at least 2.
        y: (M, D), M at least 2.
    """
    first, second = (np.atleast_2d(np.cov(values, rowvar=False)) for values in (x, y))
    # tr √(AB) = the sum of the roots of the eigenvalues of √A B √A, which is symmetric and not negative.
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    mixed = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(min=0)).sum()
    return float(np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(first) + np.trace(second) - 2 * mixed)


def compare_sets(
    features: str, predicted: np.ndarray, true: np.ndarray, patients: Sequence[str], seed: int = 0
) -> Distances | None:
    """KID and FID of predictions and truths, beside what two halves of the truths give.

    Both sets are first moved by the truths' mean and divided by the root of the truths' mean variance.

    Args:
        features: name of the network.
        predicted: (N, D), a prediction for each slice.
        true: (N, D), the same slices.
        patients: (N,) whose they are.
        seed: of the halves.

    Returns:
        None with fewer than four patients.
    """
    people = np.unique(np.asarray(patients, str))
    if len(people) < 4:
        return None
    centre, scale = true.mean(axis=0), np.sqrt(true.var(axis=0).mean())
    predicted, true = ((values - centre) / (scale if scale > 0 else 1.0) for values in (predicted, true))
    rng = np.random.default_rng(seed)
    halves = []
    for _ in range(SUBSETS):
        half = np.isin(np.asarray(patients, str), rng.permutation(people)[: len(people) // 2])
        halves.append(
            (kid(predicted[half], true[half]), kid(true[half], true[~half]), fid(true[half], true[~half]))
        )
    spread, kid_floor, fid_floor = np.array(halves).T
    return Distances(
        features,
        kid(predicted, true),
        float(spread.std()),
        float(kid_floor.mean()),
        fid(predicted, true),
        float(fid_floor.mean()),
        len(true),
    )


def diversity(samples: np.ndarray, mask: np.ndarray) -> float:
    """Mean absolute difference between two samples of one slice, over the pixels of a mask.

    Args:
        samples: (K, H, W), K at least 2.
        mask: (H, W) bool.

    Returns:
        in the images' unit; NaN when the mask is empty.
    """
    values = np.sort(samples[:, mask].astype(np.float64), axis=0)
    count = len(values)
    if values.size == 0:
        return float("nan")
    ranks = (2 * np.arange(count) - count + 1)[:, None]
    return float((values * ranks).sum(axis=0).mean() / (count * (count - 1) / 2))
