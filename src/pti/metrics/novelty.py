"""Novelty: how unlike the images of training and validation an image is, at a known rate of false alarms.

Several *scores*, positive numbers that grow with the distance from what was trained on, are combined into one
number. The logarithm of each score is standardised by its mean and standard deviation over images of
validation patients; the *novelty* of an image is the largest of its standardised scores, that of a patient
the largest of its images.

A single limit on the novelty controls the rate of false alarms over all scores together. It is the larger of

- the upper end of a normal prediction interval for one more patient, at a rate of 0.02 %: mean + t · spread ·
  √(1 + 1/P), with Student's t at P − 1 degrees of freedom;
- with 49 patients or more, the split-conformal limit (Vovk et al. 2005), which at most 2 % of further
  patients exceed, whatever the distribution.

For this purpose each patient is standardised by the others, as a new patient will be. The conformal limit
alone varies with the patients that happen to be drawn: with 90 of them it is their maximum, which 0.1 to 4 %
of further patients exceed. The first limit is stricter because real scores have longer tails than a normal
distribution.

Validation patients were drawn 40 times from 500 patients of the phantom, and from 300 of another anatomy; all
others were judged by their inputs. With 90 validation patients, 0.3 and 0.6 % were flagged on average, and
more than 2 % in 0 and 2 draws; with 20, 0.7 and 1.1 %, in 4 and 6 draws; with 10 and 12, 0.4 and 0.8 %, in 3
and 3 draws. At a rate of 0.2 % it was more than 2 % in 4 to 16 draws. Of altered images, the stricter rate
loses hardly any: mirrored ones 42 % → 33 %, enlarged ones of the other anatomy 17 % → 13 %; blurred,
brighter, wrapped and noisy ones stay within 2 %.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

CONFORMAL_RATE = 0.02
"""Largest share of unseen patients above the limit."""
NORMAL_RATE = 0.0002
"""The same for normally distributed novelty."""
MIN_PATIENTS = 5
"""Smallest number of validation patients that a limit is computed from."""

NEIGHBOUR = 5
"""Which of the nearest neighbours counts: not the first, so that one odd training image vouches for none."""

_RELATIVE_FLOOR = 0.01
"""Smallest standard deviation of a feature, of its mean: an almost constant one isn't infinitely precise."""
_TINY = 1e-12


@dataclass(frozen=True)
class Mahalanobis:
    """Distances from the distribution of training features (Lee et al. 2018, arXiv 1807.03888).

    Attributes:
        mean: (F,).
        scale: (F,), the standard deviations, at least 1 % of the mean.
        precision: (F, F), the inverse of the standardised features' covariance, which is shrunk (Ledoit and
            Wolf 2004), so that fewer images than features are enough.
    """

    mean: np.ndarray
    scale: np.ndarray
    precision: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray) -> "Mahalanobis":
        """Fit to training features (N, F); at least two images."""
        from sklearn.covariance import ledoit_wolf

        mean = features.mean(axis=0)
        scale = np.maximum(features.std(axis=0), _RELATIVE_FLOOR * np.abs(mean))
        scale = np.where(scale > _TINY, scale, max(float(scale.max()), 1.0))
        covariance, _ = ledoit_wolf((features - mean) / scale)
        ridge = np.eye(len(mean)) * max(1e-6 * float(np.trace(covariance)) / len(mean), _TINY)
        return cls(mean, scale, np.linalg.inv(covariance + ridge))

    def distance(self, features: np.ndarray) -> float:
        """Compute the distance of one image's features (F,), divided by √F."""
        offset = (features - self.mean) / self.scale
        return math.sqrt(max(float(offset @ self.precision @ offset) / len(offset), 0.0))


@dataclass(frozen=True)
class Neighbours:
    """Distances to the nearest training features (Sun et al. 2022, arXiv 2204.06507), for many features.

    Attributes:
        points: (N, F), the training features.
        scale: Root mean variance of a feature.
    """

    points: np.ndarray
    scale: float

    @classmethod
    def fit(cls, features: np.ndarray) -> "Neighbours":
        """Keep training features (N, F)."""
        return cls(features, max(float(np.sqrt(features.var(axis=0).mean())), _TINY))

    def distance(self, features: np.ndarray) -> float:
        """Compute the distance of one image's features (F,) to the fifth nearest, over √F · ``scale``."""
        distances = np.linalg.norm(self.points - features, axis=1)
        nearest = np.partition(distances, min(NEIGHBOUR, len(distances)) - 1)[:NEIGHBOUR].max()
        return float(nearest) / (math.sqrt(len(features)) * self.scale)


Distance = Mahalanobis | Neighbours


@dataclass(frozen=True)
class Verdict:
    """What the novelty of an image says.

    Attributes:
        novelty: The largest standardised score.
        score: The name of this score.
        trust: Share of patients that are expected to be at least as unusual, 0 to 1.
        is_unlike: Whether the novelty exceeds the limit.
    """

    novelty: float
    score: str
    trust: float
    is_unlike: bool


@dataclass(frozen=True)
class NoveltyLimit:
    """Scales of the scores and the limit of the novelty, from validation patients.

    Attributes:
        scales: Score -> mean and standard deviation of its logarithm over images.
        mean, spread: Mean and standard deviation of the patients' novelty.
        patients: Number of patients P.
        limit: Novelty above which an image is unlike the training's.
    """

    scales: Mapping[str, tuple[float, float]]
    mean: float
    spread: float
    patients: int
    limit: float

    @classmethod
    def fit(cls, scores: Mapping[str, np.ndarray], patients: Sequence[str]) -> "NoveltyLimit":
        """Fit to the scores of validation images.

        Args:
            scores: Score -> (N,), not negative.
            patients: (N,) the patient of each image; at least :data:`MIN_PATIENTS` different ones.
        """
        from scipy.stats import t

        logs = np.log(np.stack(list(scores.values()), axis=1) + _TINY)
        owners, names = np.asarray(patients, str), sorted(set(patients))
        novelty = []
        for name in names:
            mean, std = _mean_and_std(logs[owners != name])
            novelty.append(float(((logs[owners == name] - mean) / std).max()))
        count, centre, spread = len(names), float(np.mean(novelty)), float(np.std(novelty, ddof=1))
        limit = centre + float(t.ppf(1 - NORMAL_RATE, count - 1)) * spread * math.sqrt(1 + 1 / count)
        rank = math.ceil((count + 1) * (1 - CONFORMAL_RATE) - 1e-9)
        if rank <= count:
            limit = max(limit, sorted(novelty)[rank - 1])
        scales = zip(*(values.tolist() for values in _mean_and_std(logs)), strict=True)
        return cls(dict(zip(scores, scales, strict=True)), centre, spread, count, limit)

    def judge(self, scores: Mapping[str, float]) -> Verdict:
        """Judge an image by its scores, some of which may be missing."""
        from scipy.stats import t

        standardized = {
            name: (math.log(value + _TINY) - self.scales[name][0]) / self.scales[name][1]
            for name, value in scores.items()
            if name in self.scales
        }
        score = max(standardized, key=standardized.__getitem__)
        novelty = standardized[score]
        place = (novelty - self.mean) / max(self.spread * math.sqrt(1 + 1 / self.patients), _TINY)
        return Verdict(novelty, score, float(t.sf(place, self.patients - 1)), novelty > self.limit)


def _mean_and_std(logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation (n − 1) of (N, K) over images, (K,) each."""
    return logs.mean(axis=0), np.maximum(logs.std(axis=0, ddof=1), 1e-3)
