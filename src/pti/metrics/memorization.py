"""Whether generated images are copies of training images, judged by how near real new images come to them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

QUANTILE = 0.05
"""Share of real held-out images that counts as suspiciously near."""

MOST_FLAGGED = 0.10
"""A model is said to copy when more than this share of its samples is flagged."""


@dataclass(frozen=True)
class Nearest:
    """For each of Q images the nearest of the training images.

    Attributes:
        index: (Q,) which one it is.
        distance: (Q,) to it: root mean square difference, in the unit of the values.
        closeness: (Q,) in [0, 1]: this distance divided by that to the nearest image of any other patient.
            About 1 for somebody new, 0 for a copy; unlike the distance, it doesn't fall when an image is
            merely smooth.
    """

    index: np.ndarray
    distance: np.ndarray
    closeness: np.ndarray


@dataclass(frozen=True)
class Audit:
    """The audit in one space.

    Attributes:
        space: ``pixels`` or ``latents``.
        samples: (Q,) generated images against the training images.
        real: the held-out real images against them.
        flagged: (Q,) bool: nearer than all but :data:`QUANTILE` of the real images come, both in distance and
            in closeness.
    """

    space: str
    samples: Nearest
    real: Nearest
    flagged: np.ndarray

    @property
    def share(self) -> float:
        """Of the samples, how many are flagged."""
        return float(self.flagged.mean())

    @property
    def copies(self) -> bool:
        """Whether the model copies training images."""
        return self.share > MOST_FLAGGED


def audit(
    space: str, samples: np.ndarray, real: np.ndarray, training: np.ndarray, patients: Sequence[str]
) -> Audit:
    """Compare generated and real held-out images with the training images.

    Args:
        space: what the values are.
        samples: (Q, D) generated.
        real: (N, D) held out: of patients that training hasn't seen.
        training: (R, D).
        patients: (R,) whose the training images are; at least two.
    """
    generated, held_out = (nearest(images, training, patients) for images in (samples, real))
    near, close = (
        getattr(generated, name) < np.quantile(getattr(held_out, name), QUANTILE)
        for name in ("distance", "closeness")
    )
    return Audit(space, generated, held_out, near & close)


def nearest(images: np.ndarray, training: np.ndarray, patients: Sequence[str]) -> Nearest:
    """Look for each image (Q, D) in the training images (R, D), whose patients (R,) are given."""
    owner = np.asarray(patients, str)
    if len(np.unique(owner)) < 2:
        raise ValueError("training images of at least two patients are expected")
    index, distance, closeness = [], [], []
    for image in images:
        distances = np.sqrt(np.mean(np.square(training - image, dtype=np.float64), axis=1))
        first = int(distances.argmin())
        other = distances[owner != owner[first]].min()
        index.append(first)
        distance.append(distances[first])
        closeness.append(distances[first] / other if other > 0 else 1.0)
    return Nearest(np.array(index), np.array(distance), np.array(closeness))
