"""Distances of groups and patients in latent space, silhouettes, and the patients' share of the variance.

A distance is the root mean squared difference over all latent values, so that models can be compared: 1 is
one standard deviation of the prior. Differences of means describe these images only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pti.latent_study.latents import Latents


@dataclass(frozen=True)
class Measure:
    """One row of ``distances.csv``; ``value`` is NaN where the images are too few to compute it."""

    measure: str
    of: str
    value: float
    meaning: str


def group_measures(latents: Latents) -> list[Measure]:
    """Compute distances within and between groups, silhouettes, and the patients' share of the variance."""
    squared = squared_distances(latents.flat)
    rows: list[Measure] = []
    for name in latents.groups:
        members = latents.group == name
        flat = latents.flat[members]
        share = patient_share(flat, latents.patient[members])
        rows += [
            Measure(
                "spread within",
                name,
                _distance_to_mean(flat),
                "mean distance of an image to its group's mean",
            ),
            Measure("patient's share", name, share, "share of the group's variance between patients, 0 to 1"),
        ]
    if len(latents.groups) > 1:
        rows += _between_groups(latents, squared)
    for what, labels in (("group", latents.group), ("patient", latents.patient)):
        meaning = f"of the {what}s: 1 well separated, 0 overlapping, below 0 mixed"
        rows.append(Measure("silhouette", what, silhouette(squared, labels), meaning))
    return rows


def patient_distances(latents: Latents) -> list[dict[str, str | int | float]]:
    """Compute a row for each patient with a pair, sorted by falling pair distance.

    Returns:
        ``patient``, ``pairs``, ``pair_distance`` (mean over the pairs), ``smallest``, ``largest``,
        ``spread_GROUP`` (mean distance of the patient's images to their mean).
    """
    pairs = latents.pairs()
    distances = pair_distances(latents, pairs)
    patient_of_pair = latents.patient[pairs[:, 0]]
    rows = []
    for patient in np.unique(patient_of_pair):
        own = distances[patient_of_pair == patient]
        row: dict[str, str | int | float] = {
            "patient": str(patient),
            "pairs": len(own),
            "pair_distance": float(own.mean()),
            "smallest": float(own.min()),
            "largest": float(own.max()),
        }
        for group in latents.groups[:2]:
            members = (latents.patient == patient) & (latents.group == group)
            row[f"spread_{group}"] = _distance_to_mean(latents.flat[members])
        rows.append(row)
    return sorted(rows, key=lambda row: -float(row["pair_distance"]))


def pair_distances(latents: Latents, pairs: np.ndarray) -> np.ndarray:
    """Compute the (P,) distances between the two images of each pair (P, 2)."""
    return np.array([distance(latents.flat[first], latents.flat[second]) for first, second in pairs])


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """Compute the root mean squared difference of two arrays of latents of the same shape."""
    return float(np.sqrt(np.mean(np.square(first.astype(np.float64) - second))))


def squared_distances(flat: np.ndarray) -> np.ndarray:
    """Compute the (N, N) float64 mean squared differences between the rows of (N, D)."""
    from sklearn.metrics.pairwise import euclidean_distances

    # Centred, since the expanded square loses digits far from the origin.
    centred = flat.astype(np.float64) - flat.mean(0, dtype=np.float64)
    return euclidean_distances(centred, squared=True) / flat.shape[1]


def silhouette(squared: np.ndarray, labels: np.ndarray) -> float:
    """Compute the mean silhouette (Rousseeuw 1987) from squared distances.

    Returns:
        -1 to 1; NaN with fewer than two labels, or if each label has a single image.
    """
    from sklearn.metrics import silhouette_score

    if not 2 <= len(np.unique(labels)) < len(labels):
        return np.nan
    return float(silhouette_score(np.sqrt(squared), labels, metric="precomputed"))


def patient_share(flat: np.ndarray, patient: np.ndarray) -> float:
    """Compute the share of variance between patients, 1 − (within / (N − P)) / (total / (N − 1)), at least 0.

    The correction for the number of patients P brings N random images close to 0 (adjusted R²).

    Returns:
        0 to 1; NaN with a single patient, with one image per patient, or without any variance.
    """
    count, patients = len(flat), np.unique(patient)
    if not 2 <= len(patients) < count:
        return np.nan
    total = _scatter(flat)
    if total == 0:
        return np.nan
    within = sum(_scatter(flat[patient == one]) for one in patients)
    return max(0.0, 1 - (within / (count - len(patients))) / (total / (count - 1)))


def _between_groups(latents: Latents, squared: np.ndarray) -> list[Measure]:
    first, second = latents.groups[:2]
    in_first, in_second = latents.group == first, latents.group == second
    pairs = latents.pairs()
    means = distance(latents.flat[in_first].mean(0), latents.flat[in_second].mean(0))
    cross = float(np.sqrt(squared[np.ix_(in_first, in_second)]).mean())
    within_pair = float(pair_distances(latents, pairs).mean()) if len(pairs) else np.nan
    of = f"{first} – {second}"
    return [
        Measure("between means", of, means, "distance between the groups' means"),
        Measure(
            "cross distance", of, cross, f"mean distance between any {first} image and any {second} image"
        ),
        Measure("pair distance", of, within_pair, "mean distance between the two images of a pair"),
    ]


def _scatter(flat: np.ndarray) -> float:
    return float(np.square(flat - flat.mean(0)).sum(dtype=np.float64))


def _distance_to_mean(flat: np.ndarray) -> float:
    return float(np.sqrt(np.square(flat - flat.mean(0)).mean(1, dtype=np.float64)).mean())
