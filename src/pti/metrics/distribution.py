"""Distances between two sets of images, by features of them: KID, FID."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from pti.metrics.bootstrap import Mean

SUBSETS = 100
FEWEST = 4
"""Patients that two halves and an interval take."""

FEATURES = {
    "lite0": "EfficientNet-Lite0 (ImageNet)",
    "autoencoder": "own autoencoder (latents, 4 × 4 means)",
}
"""Short names of features, and what they are."""


@dataclass(frozen=True)
class Distances:
    """How far a method's predictions lie, as a set, from the true images of the same slices.

    Attributes:
        features: one of :data:`FEATURES`.
        method: whose predictions.
        kid: kernel distance; about 0 for equal distributions, also below.
        kid_halves: (:data:`SUBSETS`,) the same of random halves of the patients; all methods have the same
            halves.
        kid_floor: the same between two halves of the patients of the true images (mean over random halves).
        fid: Fréchet distance; strongly biased upwards at a few hundred images.
        fid_floor: the same between two halves of the true images: what FID calls equal here.
        count: images on each side.
        patients: whose they are.
    """

    features: str
    method: str
    kid: float
    kid_halves: np.ndarray
    kid_floor: float
    fid: float
    fid_floor: float
    count: int
    patients: int

    @property
    def figure(self) -> str:
        """What its KID is called in tables: ``kid_lite0``."""
        return f"kid_{self.features}"

    def kid_mean(self) -> Mean:
        """:attr:`kid` with its 95 % interval."""
        return self._interval(self.kid, self.kid_halves)

    def kid_minus(self, other: "Distances") -> Mean:
        """The KID minus that of another method by the same features, with its 95 % interval."""
        return self._interval(self.kid - other.kid, self.kid_halves - other.kid_halves)

    def _interval(self, value: float, halves: np.ndarray) -> Mean:
        """A delete-half jackknife over the patients (Shao and Wu 1989): halves scatter as much around the
        whole as wholes around the truth. A bootstrap would draw images twice, to which KID is not blind."""
        kept = self.patients // 2
        error = float(halves.std()) * np.sqrt(kept / (self.patients - kept))
        reach = float(-stdtrit(self.patients - 1, 0.025) * error)
        return Mean(value, value - reach, value + reach, self.count, self.patients)


def kid(x: np.ndarray, y: np.ndarray) -> float:
    """Kernel inception distance: unbiased squared MMD with (x·y / D + 1)³ (Bińkowski et al. 2018).

    Args:
        x: (N, D), N at least 2.
        y: (M, D), M at least 2.
    """
    within = [_kernel(values, values)[~np.eye(len(values), dtype=bool)].mean() for values in (x, y)]
    return float(sum(within) - 2 * _kernel(x, y).mean())


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(N, M) of (N, D) and (M, D)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def _kids(x: np.ndarray, y: np.ndarray, of_x: np.ndarray, of_y: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """(S,) KIDs between parts of two sets of the same slices, from pairs of images of different patients.

    A prediction resembles its own truth, and two slices of a jaw each other. Such pairs have more weight in
    the term between the sets, so that KID would fall below 0 for predictions merely near their truths.

    Args:
        x: (N, D).
        y: (N, D).
        of_x: (S, N), 1 for what belongs to a part.
        of_y: (S, N) the same.
        apart: (N, N), 1 where an image and another one are of different patients.
    """

    def mean(kernel: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return ((one @ (kernel * apart)) * other).sum(axis=1) / ((one @ apart) * other).sum(axis=1)

    within = mean(_kernel(x, x), of_x, of_x) + mean(_kernel(y, y), of_y, of_y)
    return within - 2 * mean(_kernel(x, y), of_x, of_y)


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
    features: str,
    predicted: Mapping[str, np.ndarray],
    true: np.ndarray,
    patients: Sequence[str],
    seed: int = 0,
) -> list[Distances]:
    """KID and FID of each method's predictions and the truths, beside what two halves of the truths give.

    All sets are first moved by the truths' mean and divided by the root of the truths' mean variance. In KID,
    pairs of images of one patient don't count, see `_kids`.

    Args:
        features: one of :data:`FEATURES`.
        predicted: method -> (N, D), a prediction for each slice.
        true: (N, D), the same slices.
        patients: (N,) whose they are.
        seed: of the halves.

    Returns:
        one for each method; none at all with fewer than :data:`FEWEST` slices. With fewer than that many
        patients each slice counts as a patient of its own, see `note_on_units`.
    """
    owner, count = np.asarray(patients, str), len(true)
    if len(np.unique(owner)) < FEWEST:
        owner = np.arange(count).astype(str)
    people = len(np.unique(owner))
    if people < FEWEST:
        return []
    centre, scale = true.mean(axis=0), np.sqrt(true.var(axis=0).mean())
    scale = scale if scale > 0 else 1.0
    true = (true - centre) / scale
    halves, apart = _halves(owner, seed), (owner[:, None] != owner).astype(np.float64)
    parts = np.vstack([np.ones(count), halves])
    kid_floor = float(_kids(true, true, halves, 1 - halves, apart).mean())
    fid_floor = float(np.mean([fid(true[half > 0], true[half == 0]) for half in halves]))
    found = []
    for method, values in predicted.items():
        moved = (values - centre) / scale
        kids = _kids(moved, true, parts, parts, apart)
        floors = (kid_floor, fid(moved, true), fid_floor)
        found.append(Distances(features, method, float(kids[0]), kids[1:], *floors, count, people))
    return found


def note_on_units(patients: Sequence[str]) -> str | None:
    """What the reader must know of `compare_sets` on slices of these patients; None = nothing."""
    if len(patients) < FEWEST:
        return f"KID and FID need {FEWEST} slices at least: they are left out"
    if len(set(patients)) < FEWEST:
        return (
            f"with fewer than {FEWEST} patients KID and FID take every slice for a patient of its own: their "
            "intervals are too narrow"
        )
    return None


def _halves(owner: np.ndarray, seed: int) -> np.ndarray:
    """(:data:`SUBSETS`, N): 1 for the images of random halves of the patients."""
    people, rng = np.unique(owner), np.random.default_rng(seed)
    drawn = (rng.permutation(people)[: len(people) // 2] for _ in range(SUBSETS))
    return np.array([np.isin(owner, half) for half in drawn], np.float64)


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
