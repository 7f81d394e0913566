"""Samples of a data set as batches of tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from pti.common.errors import DataError
from pti.data.augment import Augmentation
from pti.data.image_cache import FileImages
from pti.data.layouts import Pair, abbreviate
from pti.data.tif import TifError

Key = tuple[int, int]
"""(epoch, index of the sample): all that a worker needs to know."""

SOURCES = ("target", "condition", "both", "pairs")


@dataclass(frozen=True)
class Sample:
    """One element of a batch.

    Attributes:
        name: of the pair; with a folder before it when both of its images are samples of their own.
        patient: who it belongs to.
        pair: index into the images.
        sides: what it holds, ``condition``, ``target`` or both.
    """

    name: str
    patient: str
    pair: int
    sides: tuple[str, ...]


def samples_of(pairs: Sequence[tuple[int, Pair]], sources: str) -> list[Sample]:
    """Samples of numbered pairs, for ``target``, ``condition``, ``both`` (each its own sample) or ``pairs``.

    Raises:
        DataError: a pair lacks what is asked for.
    """
    if sources == "both":
        folders = {"condition": "dente", "target": "edente"}
        return [
            Sample(f"{folder}/{pair.name}", pair.patient, index, (side,))
            for index, pair in pairs
            for side, folder in folders.items()
            if getattr(pair, side) is not None
        ]
    sides = ("condition", "target") if sources == "pairs" else (sources,)
    if lacking := [pair.name for _, pair in pairs if any(getattr(pair, side) is None for side in sides)]:
        fix = "Add the missing images, or remove their partners."
        raise DataError(f"{abbreviate(lacking)}: {' or '.join(sides)} image missing. {fix}")
    return [Sample(pair.name, pair.patient, index, sides) for index, pair in pairs]


class TifDataset(Dataset):
    """Batches of raw images.

    A batch holds ``condition`` and ``target``, or ``image`` for samples with one image, (B, 1, S, S) float32
    raw images; ``pixel_mm`` (B,) float32; ``name`` and ``patient``, lists of str.

    Args:
        images: where they come from.
        samples: what is served.
        augmentation: applied to the images of a sample alike; None for none.
        seed: of the augmentation.
        pixel_mm: edge of a pixel in millimetres, before resizing, for files that don't say.
    """

    def __init__(
        self,
        images: FileImages,
        samples: Sequence[Sample],
        augmentation: Augmentation | None = None,
        seed: int = 0,
        pixel_mm: float = 0.15,
    ) -> None:
        self.images, self.samples = images, samples
        self.augmentation, self.seed, self.pixel_mm = augmentation, seed, pixel_mm

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[Key]) -> dict[str, Any]:
        """The batch of these keys. The DataLoader calls this where it exists, and copies are made only
        once."""
        samples = [self.samples[index] for _, index in keys]
        sides = samples[0].sides
        size = self.images.image_size
        stacked = np.empty((len(sides), len(keys), 1, size, size), np.float32)
        try:
            for position, ((epoch, _), sample) in enumerate(zip(keys, samples, strict=True)):
                stacked[:, position, 0] = self._raw(sample, epoch)
            pixel_mm = [self.images.pixel_mm(sample.pair, self.pixel_mm) for sample in samples]
        except TifError as error:
            # A worker's exception is built anew from its message alone, which a TifError can't be.
            raise DataError(str(error)) from None
        names = ("image",) if len(sides) == 1 else sides
        return {
            **{name: torch.from_numpy(images) for name, images in zip(names, stacked, strict=True)},
            "pixel_mm": torch.tensor(pixel_mm, dtype=torch.float32),
            "name": [sample.name for sample in samples],
            "patient": [sample.patient for sample in samples],
        }

    def _raw(self, sample: Sample, epoch: int) -> Sequence[np.ndarray]:
        images = [getattr(self.images, side)(sample.pair) for side in sample.sides]
        if self.augmentation is None:
            return images
        return list(self.augmentation(np.stack(images), self.seed, epoch, sample.name))
