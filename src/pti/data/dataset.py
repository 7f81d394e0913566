"""Batches of tensors from the samples of a data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from pti.common.errors import DataError
from pti.data.augment import Augmentation
from pti.data.image_cache import FileImages
from pti.data.layouts import ROLES, Pair, abbreviate
from pti.data.tif import TifError

Key = tuple[int, int]
"""(epoch, index of the sample): everything that a loader process needs to know."""

SOURCES = ("target", "condition", "both", "pairs")
_PREFIXES = {"condition": "dente", "target": "edente"}


@dataclass(frozen=True)
class Sample:
    """One element of a batch.

    Attributes:
        name: Name of the pair, after ``dente/`` or ``edente/`` if its two images are separate samples.
        patient: Patient identifier.
        pair: Index of the pair in the images.
        roles: Roles of its images: ``condition``, ``target`` or both.
    """

    name: str
    patient: str
    pair: int
    roles: tuple[str, ...]


def samples_of(pairs: Sequence[tuple[int, Pair]], sources: str) -> list[Sample]:
    """Make samples of numbered pairs.

    Args:
        pairs: Pairs with their indices in the images.
        sources: ``target``, ``condition``, ``both`` (each image is a sample) or ``pairs``.

    Raises:
        DataError: A pair lacks an image that ``sources`` requires.
    """
    if sources == "both":
        return [
            Sample(f"{_PREFIXES[role]}/{pair.name}", pair.patient, index, (role,))
            for index, pair in pairs
            for role in pair.files
        ]
    roles = ROLES if sources == "pairs" else (sources,)
    if incomplete := [pair.name for _, pair in pairs if not set(roles) <= pair.files.keys()]:
        fix = "Add the missing images, or remove their partners."
        raise DataError(f"{abbreviate(incomplete)}: {' or '.join(roles)} image missing. {fix}")
    return [Sample(pair.name, pair.patient, index, roles) for index, pair in pairs]


@dataclass(eq=False)
class TifDataset(Dataset):
    """Batches of raw images.

    A batch contains ``condition`` and ``target``, or ``image`` for samples with one image, each
    (B, 1, size, size) float32 raw images; ``pixel_mm``, (B,) float32; ``name`` and ``patient``, lists of str.

    Attributes:
        images: Images of all pairs.
        samples: Samples to serve.
        augmentation: Transform applied equally to all images of a sample; None applies none.
        seed: Seed of the augmentation.
        pixel_mm: Edge of a pixel in millimetres before resizing, for files that state none.
    """

    images: FileImages
    samples: Sequence[Sample]
    augmentation: Augmentation | None = None
    seed: int = 0
    pixel_mm: float = 0.15

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[Key]) -> dict[str, Any]:
        """Return the batch of these keys; the DataLoader prefers this method, which copies images once."""
        samples = [self.samples[index] for _, index in keys]
        roles, size = samples[0].roles, self.images.image_size
        stacked = np.empty((len(roles), len(keys), 1, size, size), np.float32)
        try:
            for position, ((epoch, _), sample) in enumerate(zip(keys, samples, strict=True)):
                images = np.stack([self.images.image(sample.pair, role) for role in sample.roles])
                if self.augmentation is not None:
                    images = self.augmentation(images, self.seed, epoch, sample.name)
                stacked[:, position, 0] = images
            pixel_mm = [self.images.pixel_mm(sample.pair, self.pixel_mm) for sample in samples]
        except TifError as error:
            # The DataLoader recreates a worker's exception from its message alone: impossible for a TifError.
            raise DataError(str(error)) from None
        names = ("image",) if len(roles) == 1 else roles
        return {
            **{name: torch.from_numpy(images) for name, images in zip(names, stacked, strict=True)},
            "pixel_mm": torch.tensor(pixel_mm, dtype=torch.float32),
            "name": [sample.name for sample in samples],
            "patient": [sample.patient for sample in samples],
        }
