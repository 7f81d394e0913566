"""Random changes to raw images, equal for both images of a pair; deformations are MONAI's transforms.

Every draw depends only on (seed, epoch, name): not on the worker, the rank, the batch or earlier draws.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.transforms.spatial.array import Rand2DElastic, RandAffine
from scipy.ndimage import gaussian_filter

from pti.common.files import to_bytes
from pti.metrics.changed_region import changed_region

_SHORTEST_PART = 0.05
"""Smallest part of the bone that is stretched, as a fraction of the image's longer edge."""


@dataclass
class Augmentation:
    """Loss of ridge; flips, quarter turns; affine and elastic deformation in one interpolation; intensity.

    Background stays exactly 0: the tissue mask is deformed together with the image, values are divided by it,
    and a pixel is tissue if at least half of it is. Changes of intensity keep the tissue where it is, and
    positive.

    Attributes:
        horizontal_flip: Probability of a left-right flip.
        vertical_flip: Probability of an up-down flip.
        quarter_turn: Probability of a turn by 90, 180 or 270 degrees (square images only).
        affine: Probability of an affine deformation.
        rotation: Largest rotation in degrees, in either direction.
        scaling: Largest change of scale as a fraction, in either direction, for each axis.
        shear: Largest shear as a fraction, in either direction.
        translation: Largest shift as a fraction of the image size, in either direction.
        elastic: Probability of an elastic deformation.
        elastic_spacing: Distance of its control points as a fraction of the image size.
        elastic_magnitude: Largest standard deviation of their displacement as a fraction of the image size.
        intensity: Probability of a change of intensity: of all that follows at once.
        gain: Largest change of the unit: a factor from exp(-gain) to exp(gain).
        gamma: Largest change of the contrast: values, relative to the pair's median, to a power from
            exp(-gamma) to exp(gamma).
        blur: Largest standard deviation of a Gaussian blur as a fraction of the image size.
        noise: Largest standard deviation of Gaussian noise as a fraction of the pair's median; its values
            differ between the two images.
        ridge: Probability that the edente image of a pair gets a higher or lower ridge than it has. The dente
            image stays, so only a model that is given the sizes of the bone can learn from such pairs.
        ridge_shift: Largest shift of its crest as a fraction of the image size, in either direction.
    """

    horizontal_flip: float = 0.0
    vertical_flip: float = 0.0
    quarter_turn: float = 0.0
    affine: float = 0.0
    rotation: float = 5.0
    scaling: float = 0.05
    shear: float = 0.03
    translation: float = 0.03
    elastic: float = 0.0
    elastic_spacing: float = 0.2
    elastic_magnitude: float = 0.01
    intensity: float = 0.0
    gain: float = 0.1
    gamma: float = 0.3
    blur: float = 0.004
    noise: float = 0.03
    ridge: float = 0.0
    ridge_shift: float = 0.04

    def __post_init__(self) -> None:
        for name in (
            "horizontal_flip",
            "vertical_flip",
            "quarter_turn",
            "affine",
            "elastic",
            "intensity",
            "ridge",
        ):
            if not 0 <= (probability := getattr(self, name)) <= 1:
                raise ValueError(f"{name}={probability}: expected a probability from 0 to 1.")

    def __call__(self, images: np.ndarray, seed: int, epoch: int, name: str) -> np.ndarray:
        """Apply the same changes to all images of one pair, and ``ridge`` to its edente image.

        Args:
            images: (C, H, W) float32 raw images, background exactly 0; of a pair the dente image first.
            seed: Seed of the run.
            epoch: Epoch, counted from 0.
            name: Name of the pair.

        Returns:
            (C, H, W) float32 raw images.
        """
        digest = hashlib.sha256(to_bytes(f"{seed}/{epoch}/{name}")).digest()
        random = np.random.RandomState(int.from_bytes(digest[:4], "big"))
        loss, shift = np.random.RandomState(int.from_bytes(digest[4:8], "big")).uniform([0, -1], 1)
        if loss < self.ridge and len(images) == 2:
            images = np.stack([images[0], _move_crest(images[0], images[1], shift * self.ridge_shift)])
        # Draw all numbers, used or not: raising one probability does not alter the other changes.
        horizontal, vertical, turn, affine, elastic = random.uniform(size=5)
        turns, deformation_seed = random.randint(1, 4), random.randint(2**31)
        if affine < self.affine or elastic < self.elastic:
            deform = self._deformation(images.shape, affine < self.affine, elastic < self.elastic)
            deform.set_random_state(deformation_seed)
            images = _apply_to_tissue(deform, images)
        if horizontal < self.horizontal_flip:
            images = images[:, :, ::-1]
        if vertical < self.vertical_flip:
            images = images[:, ::-1]
        if turn < self.quarter_turn and images.shape[1] == images.shape[2]:
            images = np.rot90(images, turns, axes=(1, 2))
        if random.uniform() < self.intensity:
            images = self._change_intensity(images, random)
        return np.ascontiguousarray(images)

    def _deformation(self, shape: tuple[int, ...], affine: bool, elastic: bool) -> RandAffine | Rand2DElastic:
        size = max(shape[1:])
        ranges = {
            "rotate_range": math.radians(self.rotation),
            "scale_range": (self.scaling, self.scaling),
            "shear_range": (self.shear, self.shear),
            "translate_range": (self.translation * size, self.translation * size),
        }
        if not elastic:
            return RandAffine(prob=1, padding_mode="zeros", **ranges)
        spacing, magnitude = round(self.elastic_spacing * size), self.elastic_magnitude * size
        return Rand2DElastic(
            spacing=(spacing, spacing),
            magnitude_range=(0.3 * magnitude, magnitude),
            prob=1,
            padding_mode="zeros",
            **(ranges if affine else {}),
        )

    def _change_intensity(self, images: np.ndarray, random: np.random.RandomState) -> np.ndarray:
        tissue = images != 0
        values = images[tissue].astype(np.float64)
        if values.size == 0:
            return images
        gain, gamma, blur, noise = random.uniform([-1, -1, 0, 0], 1)
        typical = float(np.median(np.abs(values)))
        changed = np.zeros(images.shape)
        changed[tissue] = np.sign(values) * (np.abs(values) / typical) ** math.exp(gamma * self.gamma)
        sigma = (0, *[blur * self.blur * max(images.shape)] * 2)
        coverage = gaussian_filter(tissue.astype(np.float64), sigma)[tissue]
        blurred = gaussian_filter(changed, sigma)[tissue] / coverage
        noisy = blurred + noise * self.noise * random.standard_normal(images.shape)[tissue]
        scaled = (typical * math.exp(gain * self.gain) * noisy).astype(np.float32)
        tiny = np.finfo(np.float32).tiny
        result = np.zeros(images.shape, np.float32)
        result[tissue] = np.maximum(scaled, tiny) if values.min() > 0 else np.where(scaled, scaled, tiny)
        return result


def _move_crest(condition: np.ndarray, target: np.ndarray, shift: float) -> np.ndarray:
    """Raise or lower the crest of a healed bone (H, W) by stretching the part of it that healing changed.

    The part is that between its topmost tissue and the lowest row of the region of change. Its rows move by
    the square of their distance from its end, and rows below it stay in place.

    Args:
        condition: (H, W) raw.
        target: (H, W) raw.
        shift: Of the crest, as a fraction of the longer edge, positive downwards; limited to a fifth of the
            part.
    """
    tissue, changed = target != 0, changed_region(condition, target)
    rows = [np.flatnonzero(mask.any(1)) for mask in (tissue, tissue & changed)]
    if not all(len(found) for found in rows):
        return target
    crest, end = int(rows[0][0]), int(rows[1][-1]) + 1
    length = end - crest
    if length < _SHORTEST_PART * max(target.shape):
        return target
    moved = float(np.clip(shift * max(target.shape), -length / 5, length / 5))
    place = np.arange(len(target), dtype=float)
    source = place - moved * np.clip((end - place) / (length - moved), 0, 1) ** 2
    below = np.clip(np.floor(source).astype(int), 0, len(target) - 2)
    part = np.clip(source - below, 0, 1).astype(np.float32)[:, None]
    inside = (source >= 0)[:, None]

    def deform(images: torch.Tensor) -> np.ndarray:
        arrays = images.numpy()
        return inside * ((1 - part) * arrays[:, below] + part * arrays[:, below + 1])

    return _apply_to_tissue(deform, target[None])[0]


def _apply_to_tissue(deform: Callable[[torch.Tensor], Any], images: np.ndarray) -> np.ndarray:
    deformed = deform(torch.from_numpy(np.concatenate([images, (images != 0).astype(np.float32)])))
    values, coverage = np.split(np.asarray(deformed, dtype=np.float32), 2)
    inside = coverage >= 0.5
    result = np.divide(values, coverage, out=np.zeros_like(values), where=inside)
    # Tissue of both signs can average to 0, which would mean background.
    result[inside & (result == 0)] = np.finfo(np.float32).tiny
    return result
