"""What the latents say of groups and patients: distances, spread, silhouettes, a patient's share.

A distance is the root of the mean squared difference over all latent numbers, so that it can be compared
between models: 1 is a standard deviation of the prior. Differences of means hold for these images only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pti.latent_study.latents import Latents


@dataclass(frozen=True)
class Measure:
    """One row of ``distances.csv``; ``value`` is NaN where the images don't allow to tell."""

    measure: str
    of: str
    value: float
    meaning: str


def group_measures(latents: Latents) -> list[Measure]:
    """Distances within and between groups, silhouettes, and how much of the latents a patient explains."""
    squared = squared_distances(latents.flat)
    groups = {name: np.flatnonzero(latents.group == name) for name in latents.groups}
    rows: list[Measure] = []
    for name, members in groups.items():
        spread = _distance_to_centre(latents.flat[members])
        share = patient_share(latents.flat[members], latents.patient[members])
        rows.append(Measure("spread within", name, spread, "mean distance of an image to its group's mean"))
        rows.append(Measure("patient's share", name, share, "of the variance within the group, 0 to 1"))
    rows += _between(latents, groups, squared)
    for what, labels in (("group", latents.group), ("patient", latents.patient)):
        told = f"of the {what}s: 1 well apart, 0 overlapping, below 0 mixed"
        rows.append(Measure("silhouette", what, silhouette(squared, labels), told))
    return rows


def patient_distances(latents: Latents) -> list[dict[str, str | int | float]]:
    """A row for each patient with a pair, the farthest apart first.

    Returns:
        ``patient``, ``pairs``, ``pair_distance`` (mean over the pairs), ``smallest``, ``largest``,
        ``spread_GROUP`` (mean distance of the patient's images to their mean).
    """
    pairs = latents.pairs()
    apart = pair_distances(latents, pairs)
    owners = latents.patient[pairs[:, 0]] if len(pairs) else np.array([], str)
    rows = []
    for patient in np.unique(owners):
        own = apart[owners == patient]
        row: dict[str, str | int | float] = {
            "patient": str(patient),
            "pairs": len(own),
            "pair_distance": float(own.mean()),
            "smallest": float(own.min()),
            "largest": float(own.max()),
        }
        for group in latents.groups[:2]:
            members = (latents.patient == patient) & (latents.group == group)
            row[f"spread_{group}"] = _distance_to_centre(latents.flat[members])
        rows.append(row)
    return sorted(rows, key=lambda row: -float(row["pair_distance"]))


def pair_distances(latents: Latents, pairs: np.ndarray) -> np.ndarray:
    """(P,) distances between the two images of each pair (P, 2)."""
    return np.array([distance(latents.flat[first], latents.flat[second]) for first, second in pairs])


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """Root of the mean squared difference of two arrays of latents of one shape."""
    return float(np.sqrt(np.mean(np.square(first.astype(np.float64) - second))))


def squared_distances(flat: np.ndarray) -> np.ndarray:
    """(N, N) float64 mean squared differences between the rows of (N, D)."""
    centred = flat.astype(np.float64) - flat.mean(0, dtype=np.float64)
    inner = centred @ centred.T
    lengths = np.diag(inner)
    found = np.maximum(lengths[:, None] + lengths[None] - 2 * inner, 0) / flat.shape[1]
    np.fill_diagonal(found, 0)
    return found


def silhouette(squared: np.ndarray, labels: np.ndarray) -> float:
    """Mean silhouette (Rousseeuw 1987) by distance; NaN with fewer than two labels or one image to each."""
    from sklearn.metrics import silhouette_score

    if not 2 <= len(np.unique(labels)) < len(labels):
        return np.nan
    return float(silhouette_score(np.sqrt(squared), labels, metric="precomputed"))


def patient_share(flat: np.ndarray, patient: np.ndarray) -> float:
    """Share of the variance between patients: 1 − (within / (N − P)) / (total / (N − 1)), at least 0.

    Corrected for the number of patients P, so that N images at random come near 0 (adjusted R²).
    """
    count, patients = len(flat), np.unique(patient)
    if not 2 <= len(patients) < count:
        return np.nan
    total = np.square(flat - flat.mean(0)).sum(dtype=np.float64)
    within = sum(_scatter(flat[patient == one]) for one in patients)
    if total == 0:
        return np.nan
    return max(0.0, 1 - (within / (count - len(patients))) / (total / (count - 1)))


def _between(latents: Latents, groups: dict[str, np.ndarray], squared: np.ndarray) -> list[Measure]:
    if len(groups) < 2:
        return []
    first, second = latents.groups[:2]
    of = f"{first} – {second}"
    pairs = latents.pairs()
    centres = [latents.flat[groups[name]].mean(0) for name in (first, second)]
    cross = float(np.sqrt(squared[np.ix_(groups[first], groups[second])]).mean())
    own = float(pair_distances(latents, pairs).mean()) if len(pairs) else np.nan
    return [
        Measure("between means", of, distance(*centres), "distance of the groups' means"),
        Measure("cross distance", of, cross, f"mean distance of any {first} image to any {second} image"),
        Measure("pair distance", of, own, "mean distance of the two images of a pair"),
    ]


def _scatter(flat: np.ndarray) -> float:
    return float(np.square(flat - flat.mean(0)).sum(dtype=np.float64))


def _distance_to_centre(flat: np.ndarray) -> float:
    return float(np.sqrt(np.square(flat - flat.mean(0)).mean(1, dtype=np.float64)).mean())
