"""Random changes to raw images, the same for both images of a pair, with MONAI's transforms.

Every draw depends on (seed, epoch, name) alone: not on the worker, the rank, the batch or what was drawn
before.
"""

import hashlib
import math

import numpy as np
import torch
from monai.transforms.spatial.array import Rand2DElastic, RandAffine


class Augmentation:
    """Flips, quarter turns, and a small affine change and a mild elastic one in a single interpolation.

    Background stays exactly 0: the tissue mask is warped along, values are divided by it, and a pixel is
    tissue when at least half of it is.

    Args:
        horizontal_flip: probability of a left-right flip.
        vertical_flip: probability of an up-down flip.
        quarter_turn: probability of a turn by 90, 180 or 270 degrees (square images only).
        affine: probability of an affine change.
        rotation: its largest rotation, in degrees, either way.
        scaling: its largest change of size, as a share, either way, for each axis.
        shear: its largest shear, as a share, either way.
        translation: its largest shift, as a share of the side, either way.
        elastic: probability of an elastic change.
        elastic_spacing: distance of the points that are moved, as a share of the side.
        elastic_magnitude: largest standard deviation of their movement, as a share of the side.
    """

    def __init__(
        self,
        horizontal_flip: float = 0.0,
        vertical_flip: float = 0.0,
        quarter_turn: float = 0.0,
        affine: float = 0.0,
        rotation: float = 5.0,
        scaling: float = 0.05,
        shear: float = 0.03,
        translation: float = 0.03,
        elastic: float = 0.0,
        elastic_spacing: float = 0.2,
        elastic_magnitude: float = 0.01,
    ) -> None:
        probabilities = (horizontal_flip, vertical_flip, quarter_turn, affine, elastic)
        if not all(0 <= probability <= 1 for probability in probabilities):
            raise ValueError(f"data.augmentation: {probabilities} should be probabilities from 0 to 1")
        self.horizontal_flip, self.vertical_flip, self.quarter_turn = probabilities[:3]
        self.affine, self.elastic = affine, elastic
        self.rotation, self.scaling, self.shear, self.translation = rotation, scaling, shear, translation
        self.elastic_spacing, self.elastic_magnitude = elastic_spacing, elastic_magnitude

    def __call__(self, images: np.ndarray, seed: int, epoch: int, name: str) -> np.ndarray:
        """Change the images of one pair alike.

        Args:
            images: (C, H, W) float32 raw images, background exactly 0.
            seed: of the run.
            epoch: counted from 0.
            name: of the pair.

        Returns:
            (C, H, W) float32 raw images.
        """
        digest = hashlib.sha256(f"{seed}/{epoch}/{name}".encode()).digest()
        random = np.random.RandomState(int.from_bytes(digest[:4], "big"))
        # Always drawn, used or not: raising one probability doesn't reshuffle what the others do.
        horizontal, vertical, turn, affine, elastic = random.uniform(size=5)
        turns, warp_seed = random.randint(1, 4), random.randint(2**31)
        if affine < self.affine or elastic < self.elastic:
            images = self._warp(images, affine < self.affine, elastic < self.elastic, warp_seed)
        if horizontal < self.horizontal_flip:
            images = images[:, :, ::-1]
        if vertical < self.vertical_flip:
            images = images[:, ::-1]
        if turn < self.quarter_turn and images.shape[1] == images.shape[2]:
            images = np.rot90(images, turns, axes=(1, 2))
        return np.ascontiguousarray(images)

    def _warp(self, images: np.ndarray, affine: bool, elastic: bool, seed: int) -> np.ndarray:
        tissue = images != 0
        transform = self._warper(images.shape[1], images.shape[2], affine, elastic)
        transform.set_random_state(seed)
        warped = transform(torch.from_numpy(np.concatenate([images, tissue.astype(np.float32)])))
        values, share = np.split(np.asarray(warped, dtype=np.float32), 2)
        inside = share >= 0.5
        result = np.divide(values, share, out=np.zeros_like(values), where=inside)
        # Tissue of both signs can average to 0, which would mean background.
        result[inside & (result == 0)] = np.finfo(np.float32).tiny
        return result

    def _warper(self, height: int, width: int, affine: bool, elastic: bool) -> RandAffine | Rand2DElastic:
        side = max(height, width)
        shift = self.translation * side
        ranges = {
            "rotate_range": math.radians(self.rotation),
            "scale_range": (self.scaling, self.scaling),
            "shear_range": (self.shear, self.shear),
            "translate_range": (shift, shift),
        }
        if not elastic:
            return RandAffine(prob=1, padding_mode="zeros", **ranges)
        spacing, magnitude = round(self.elastic_spacing * side), self.elastic_magnitude * side
        return Rand2DElastic(
            spacing=(spacing, spacing),
            magnitude_range=(0.3 * magnitude, magnitude),
            prob=1,
            padding_mode="zeros",
            **(ranges if affine else {}),
        )
