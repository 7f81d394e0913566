"""Agreement of raw validation images and their predictions, measured on the CPU while the device works on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from pti.common.transfer import to_host
from pti.metrics.morphometry import bone_mask, dice, measure
from pti.metrics.texture import texture_agreement

BONE, TEXTURE = "bone", "texture"

_BATCHES_BEHIND = 1  # a copy is read when the device has been given this many further batches


class RawAgreement:
    """Agreement of each raw image with its prediction, measured a batch late: the device never stands idle.

    Args:
        kinds: of agreement, from `BONE` and `TEXTURE`.

    Attributes:
        names: of the values: ``bone_dice``, ``bone_height_error_mm`` (absolute); ``texture_amplitude`` (1: as
            in the image), ``texture_correlation``, see `pti.metrics.texture`.
    """

    def __init__(self, kinds: Sequence[str]) -> None:
        self._measures = [_MEASURES[kind] for kind in kinds]
        self.names = [name for names, _ in self._measures for name in names]
        self._copies: deque[Callable[[], list[Tensor]]] = deque()

    def reset(self) -> None:
        """Forget the images that are not measured yet."""
        self._copies.clear()

    def add(self, raw: Tensor, prediction: Tensor, pixel_mm: Tensor) -> Iterator[dict[str, Tensor]]:
        """Add raw images and their predictions (B, 1, H, W), and the edge of a pixel in mm, (B,).

        Yields:
            The values of earlier batches, (B,) by name; NaN where the image has no bone, or no texture.
        """
        if self._measures:
            self._copies.append(to_host(raw.squeeze(1), prediction.squeeze(1), pixel_mm))
        yield from self._measured(_BATCHES_BEHIND)

    def rest(self) -> Iterator[dict[str, Tensor]]:
        """Yield the values of the batches that are left."""
        yield from self._measured(0)

    def _measured(self, left: int) -> Iterator[dict[str, Tensor]]:
        while len(self._copies) > left:
            images, predictions, pixel_mm = (copy.numpy() for copy in self._copies.popleft()())
            triples = list(zip(images, predictions, pixel_mm.tolist(), strict=True))
            rows = [[value for _, function in self._measures for value in function(*row)] for row in triples]
            yield dict(zip(self.names, torch.tensor(rows).unbind(1), strict=True))


def bone_agreement(raw: np.ndarray, prediction: np.ndarray, pixel_mm: float) -> tuple[float, float]:
    """Return Dice and absolute height error (mm) of a raw image (H, W); NaN where the truth has no bone.

    A predicted image without bone has an error of the whole height.
    """
    true_bone, predicted_bone = bone_mask(raw), bone_mask(prediction)
    height = np.nan_to_num(measure(predicted_bone, pixel_mm).height)
    error = abs(height - measure(true_bone, pixel_mm).height) * pixel_mm
    return dice(predicted_bone, true_bone), float(error)


def _texture_agreement(raw: np.ndarray, prediction: np.ndarray, _: float) -> tuple[float, float]:
    return texture_agreement(raw, prediction)


_MEASURES = {
    BONE: (("bone_dice", "bone_height_error_mm"), bone_agreement),
    TEXTURE: (("texture_amplitude", "texture_correlation"), _texture_agreement),
}
"""Kind -> names of its values, and the function that measures them in one image."""
