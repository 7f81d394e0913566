"""Memorization audit: distances of generated and of real held-out images to the training images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SUSPICIOUS_QUANTILE = 0.05
"""Quantile of the real held-out images' distances below which a sample is flagged."""

MAX_FLAGGED = 0.10
"""A model counts as copying if a larger proportion of its samples is flagged."""


@dataclass(frozen=True)
class Nearest:
    """The nearest training image of each of Q images.

    Attributes:
        index: (Q,) index of the training image.
        distance: (Q,) root mean square difference to it, in the unit of the values.
        closeness: (Q,) in [0, 1]: this distance divided by that to the nearest training image of any other
            patient. About 1 for a new patient, 0 for a copy. Unlike the distance, it doesn't fall for a
            merely smooth image.
    """

    index: np.ndarray
    distance: np.ndarray
    closeness: np.ndarray


@dataclass(frozen=True)
class Audit:
    """Result of the audit in one space.

    Attributes:
        space: ``pixels`` or ``latents``.
        samples: (Q,) nearest training images of the generated images.
        real: Nearest training images of the real held-out images.
        flagged: (Q,) bool: samples below :data:`SUSPICIOUS_QUANTILE` of the real images, both in distance and
            in closeness.
    """

    space: str
    samples: Nearest
    real: Nearest
    flagged: np.ndarray

    @property
    def flagged_proportion(self) -> float:
        """Proportion of flagged samples."""
        return float(self.flagged.mean())

    @property
    def copies(self) -> bool:
        """The model copies training images."""
        return self.flagged_proportion > MAX_FLAGGED


def audit(
    space: str, samples: np.ndarray, real: np.ndarray, training: np.ndarray, patients: Sequence[str]
) -> Audit:
    """Compare generated and real held-out images with the training images.

    Args:
        space: Name of the space of the values.
        samples: (Q, D), generated.
        real: (N, D), held out: of patients outside the training split.
        training: (R, D).
        patients: (R,) the patient of each training image; at least two different ones.
    """
    generated, held_out = (nearest(images, training, patients) for images in (samples, real))
    near, close = (
        getattr(generated, name) < np.quantile(getattr(held_out, name), SUSPICIOUS_QUANTILE)
        for name in ("distance", "closeness")
    )
    return Audit(space, generated, held_out, near & close)


def nearest(images: np.ndarray, training: np.ndarray, patients: Sequence[str]) -> Nearest:
    """Find the nearest of the training images (R, D) for each image (Q, D).

    Args:
        images: (Q, D).
        training: (R, D).
        patients: (R,) the patient of each training image.

    Raises:
        ValueError: The training images are of fewer than two patients.
    """
    owner = np.asarray(patients, str)
    if len(np.unique(owner)) < 2:
        raise ValueError("expected training images of at least two patients")
    index, distance, closeness = [], [], []
    for image in images:
        distances = np.sqrt(np.mean(np.square(training - image, dtype=np.float64), axis=1))
        first = int(distances.argmin())
        other = distances[owner != owner[first]].min()
        index.append(first)
        distance.append(distances[first])
        closeness.append(distances[first] / other if other > 0 else 1.0)
    return Nearest(np.array(index), np.array(distance), np.array(closeness))
