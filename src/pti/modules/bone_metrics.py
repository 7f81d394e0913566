"""Bone in validation images and their predictions, measured on the CPU while the device works on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from pti.common.transfer import to_host
from pti.metrics.morphometry import bone_mask, dice, measure

BONE_METRICS = ("bone_dice", "bone_height_error_mm")

_BATCHES_BEHIND = 1  # a copy is read when the device has been given this many further batches


class BoneAgreement:
    """Dice and absolute height error (mm) of each image, a batch late: the device never stands idle."""

    def __init__(self) -> None:
        self._copies: deque[Callable[[], list[Tensor]]] = deque()

    def reset(self) -> None:
        """Forget the images that are not measured yet."""
        self._copies.clear()

    def add(self, raw: Tensor, prediction: Tensor, pixel_mm: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Add raw images and their predictions (B, 1, H, W), and the edge of a pixel in mm, (B,).

        Yields:
            `bone_agreement` of earlier batches.
        """
        self._copies.append(to_host(raw.squeeze(1), prediction.squeeze(1), pixel_mm))
        yield from self._measured(_BATCHES_BEHIND)

    def rest(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield `bone_agreement` of the batches that are left."""
        yield from self._measured(0)

    def _measured(self, left: int) -> Iterator[tuple[Tensor, Tensor]]:
        while len(self._copies) > left:
            yield bone_agreement(*(copy.numpy() for copy in self._copies.popleft()()))


def bone_agreement(raw: np.ndarray, prediction: np.ndarray, pixel_mm: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return Dice and absolute height error (mm) of each image, (B,); NaN where the truth has no bone.

    Raw images are (B, H, W), ``pixel_mm`` (B,) is the edge of a pixel in mm. A predicted image without bone
    has an error of the whole height.
    """
    overlaps, errors = [], []
    for true_image, predicted_image, mm in zip(raw, prediction, pixel_mm.tolist(), strict=True):
        true_bone, predicted_bone = bone_mask(true_image), bone_mask(predicted_image)
        overlaps.append(dice(predicted_bone, true_bone))
        height = np.nan_to_num(measure(predicted_bone, mm).height)
        errors.append(abs(height - measure(true_bone, mm).height) * mm)
    return torch.tensor(overlaps), torch.tensor(errors)
