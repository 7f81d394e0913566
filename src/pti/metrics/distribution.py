"""Distances between sets of images: the kernel inception distance (KID) of their features, with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from pti.metrics.bootstrap import Mean
from pti.metrics.calibration import pair_sums

HALVES = 100
"""Number of random halves of the patients, for intervals and floors."""

MIN_PATIENTS = 4
"""Smallest number of patients that gives two halves and an interval."""

FEATURES = {
    "lite0": "EfficientNet-Lite0 (ImageNet)",
    "autoencoder": "own autoencoder (latents, 4 × 4 means)",
    "changed": "wavelet scattering (patches of the changed region)",
}
"""Short names of the features and their descriptions."""


@dataclass(frozen=True)
class SetDistance:
    """Distance of a method's predictions, as a set, from the true images of the same slices.

    Attributes:
        features: One of :data:`FEATURES`.
        method: Name of the method.
        kid: KID; about 0 for equal distributions, also below.
        kid_halves: (:data:`HALVES`,) KID of random halves of the patients; all methods share the halves.
        kid_floor: KID between two halves of the patients of the true images (mean over random halves).
        count: Number of images in each set; of patches for ``changed``.
        patients: Number of patients.
    """

    features: str
    method: str
    kid: float
    kid_halves: np.ndarray
    kid_floor: float
    count: int
    patients: int

    @property
    def metric(self) -> str:
        """Name of the KID in tables: ``kid_lite0``."""
        return f"kid_{self.features}"

    def kid_mean(self) -> Mean:
        """Return :attr:`kid` with its 95 % interval."""
        return self._interval(self.kid, self.kid_halves)

    def kid_minus(self, other: "SetDistance") -> Mean:
        """Return the KID minus that of another method with the same features, with its 95 % interval."""
        return self._interval(self.kid - other.kid, self.kid_halves - other.kid_halves)

    def _interval(self, value: float, halves: np.ndarray) -> Mean:
        """Apply a delete-half jackknife over the patients (Shao and Wu 1989).

        Halves scatter as much around the whole set as whole sets around the true value. A bootstrap would
        draw images twice, and KID is sensitive to duplicates.
        """
        kept = self.patients // 2
        error = float(halves.std()) * np.sqrt(kept / (self.patients - kept))
        margin = float(-stdtrit(self.patients - 1, 0.025) * error)
        return Mean(value, value - margin, value + margin, self.count, self.patients)


def kid(x: np.ndarray, y: np.ndarray) -> float:
    """Compute the KID of two independent sets of features.

    The unbiased squared maximum mean discrepancy with the kernel (x·y / D + 1)³ (Bińkowski et al. 2018).

    Args:
        x: (N, D), N at least 2.
        y: (M, D), M at least 2.
    """
    within = [_kernel(values, values)[~np.eye(len(values), dtype=bool)].mean() for values in (x, y)]
    return float(sum(within) - 2 * _kernel(x, y).mean())


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(N, M) kernel values of (N, D) and (M, D)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def _kids(x: np.ndarray, y: np.ndarray, of_x: np.ndarray, of_y: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """Compute the KID of S subsets of two sets of the same slices, (S,), over images of different patients.

    A prediction resembles its own true image, and two slices of a jaw resemble each other. Such pairs have
    more weight in the term between the sets: with them, KID would fall below 0 for predictions that are
    merely close to their true images.

    Args:
        x: (N, D).
        y: (N, D).
        of_x: (S, N), 1 for the members of each subset of x, else 0.
        of_y: (S, N), the same for y.
        apart: (N, N), 1 for pairs of images of different patients, else 0.
    """

    def mean(kernel: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return ((one @ (kernel * apart)) * other).sum(axis=1) / ((one @ apart) * other).sum(axis=1)

    within = mean(_kernel(x, x), of_x, of_x) + mean(_kernel(y, y), of_y, of_y)
    return within - 2 * mean(_kernel(x, y), of_x, of_y)


def compare_sets(
    features: str,
    predicted: Mapping[str, np.ndarray],
    true: np.ndarray,
    patients: Sequence[str],
    seed: int = 0,
) -> list[SetDistance]:
    """Compute the KID between each method's predictions and the true images.

    First all sets are shifted by the mean of the true features and divided by the root of their mean
    variance. Pairs of images of the same patient are left out, see `_kids`.

    Args:
        features: One of :data:`FEATURES`.
        predicted: Method -> (N, D), the features of a prediction for each slice.
        true: (N, D), the features of the same slices' true images.
        patients: (N,) the patient of each slice.
        seed: Seed of the halves.

    Returns:
        One distance for each method; none with fewer than :data:`MIN_PATIENTS` slices. With fewer patients
        than that, each slice counts as a patient, see `too_few_patients`.
    """
    owner, count = np.asarray(patients, str), len(true)
    if len(np.unique(owner)) < MIN_PATIENTS:
        owner = np.arange(count).astype(str)
    people = len(np.unique(owner))
    if people < MIN_PATIENTS:
        return []
    centre, scale = true.mean(axis=0), np.sqrt(true.var(axis=0).mean())
    scale = scale if scale > 0 else 1.0
    true = (true - centre) / scale
    halves, apart = _halves(owner, seed), (owner[:, None] != owner).astype(np.float64)
    subsets = np.vstack([np.ones(count), halves])
    kid_floor = float(_kids(true, true, halves, 1 - halves, apart).mean())
    distances = []
    for method, values in predicted.items():
        kids = _kids((values - centre) / scale, true, subsets, subsets, apart)
        distances.append(SetDistance(features, method, float(kids[0]), kids[1:], kid_floor, count, people))
    return distances


def too_few_patients(patients: Sequence[str]) -> str | None:
    """Return a note on what `compare_sets` does with too few patients; None if there are enough.

    Args:
        patients: (N,) the patient of each slice.
    """
    if len(patients) < MIN_PATIENTS:
        return f"KID is left out: it needs at least {MIN_PATIENTS} slices"
    if len(set(patients)) < MIN_PATIENTS:
        return (
            f"with fewer than {MIN_PATIENTS} patients, KID counts every slice as a patient: its intervals "
            "are too narrow"
        )
    return None


def _halves(owner: np.ndarray, seed: int) -> np.ndarray:
    """(:data:`HALVES`, N): 1 for the images of random halves of the patients, else 0."""
    people, rng = np.unique(owner), np.random.default_rng(seed)
    drawn = (rng.permutation(people)[: len(people) // 2] for _ in range(HALVES))
    return np.array([np.isin(owner, half) for half in drawn], np.float64)


def diversity(samples: np.ndarray, mask: np.ndarray) -> float:
    """Compute the mean absolute difference between two samples of one slice, over the pixels of a mask.

    Args:
        samples: (K, H, W), K at least 2.
        mask: (H, W) bool.

    Returns:
        In the images' unit; NaN if the mask is empty.
    """
    values = samples[:, mask].astype(np.float64)
    count = len(values)
    if values.size == 0:
        return float("nan")
    return float(pair_sums(values, axis=0).mean() / (count * (count - 1) / 2))
