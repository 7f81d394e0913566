"""The autoencoder's posteriors of all training pairs, encoded once, in memory-mapped files.

A latent cache is a folder with one file ``view_000.npy``, (pairs, 3, C, h, w) float32, for each augmented
view of the training set. It contains the condition's mean, the target's mean and the target's standard
deviation. An interrupted build continues with the first incomplete view.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pti.common.errors import DataError
from pti.common.files import to_bytes
from pti.data.dataset import Key, TifDataset
from pti.data.memory_maps import MappedArray

Encode = Callable[[dict[str, Any]], Tensor]
"""A batch of pairs -> (B, 3, C, h, w): the condition's mean, the target's mean and standard deviation."""

POSTERIORS = ("condition_mean", "target_mean", "target_std")
"""Keys of the three in a batch."""


@dataclass(frozen=True)
class LatentCache:
    """The files of a training set's views, and the means to build those that are missing.

    Attributes:
        folder: Folder of the cache, named after its `cache_key`.
        dataset: Training pairs, as images.
        views: Number of augmented views; epoch e uses view e % views.
    """

    folder: Path
    dataset: TifDataset
    views: int

    @property
    def is_complete(self) -> bool:
        """Whether the files of all views exist."""
        return all(self.array(view).exists for view in range(self.views))

    def array(self, view: int) -> MappedArray:
        """Return the file of a view."""
        return MappedArray(self.folder / f"view_{view:03d}.npy")

    def create(self, view: int, latent_shape: Sequence[int]) -> None:
        """Create the file of a view, on one process, before all processes `write` into it.

        Raises:
            DataError: The folder can't be written, or the disk is full.
        """
        shape = (len(self.dataset), 3, *latent_shape)
        try:
            self.array(view).create(shape)
        except OSError as error:
            need, reason = 4 * math.prod(shape) / 2**20, error.strerror or error
            fix = f"Free {need:,.0f} MB for each view, or set data.cache_dir, or model.cache_latents=false."
            raise DataError(f"{self.folder}: latents can't be cached ({reason}). {fix}") from None

    def write(self, view: int, batches: Iterable[Sequence[int]], encode: Encode) -> None:
        """Encode these pairs of a view into its file; each process writes other pairs."""
        rows = self.array(view).unfinished()
        for batch in batches:
            posteriors = encode(self.dataset.__getitems__([(view, index) for index in batch]))
            rows[list(batch)] = posteriors.float().cpu().numpy()
        rows.flush()

    def finish(self, view: int) -> None:
        """Mark a view as complete, on one process, after all have written."""
        self.array(view).finish()


class LatentDataset(Dataset):
    """Batches of posteriors from a complete cache, for the same keys as `TifDataset`.

    A batch contains ``condition_mean``, ``target_mean`` and ``target_std``, (B, C, h, w) float32; ``name``
    and ``patient``, lists of str.

    Args:
        cache: A complete cache.

    Attributes:
        views: Arrays of the views.
    """

    def __init__(self, cache: LatentCache) -> None:
        self.samples = cache.dataset.samples
        self.views = [cache.array(view) for view in range(cache.views)]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[Key]) -> dict[str, Any]:
        """Return the batch of these keys."""
        rows = [self.views[epoch % len(self.views)].values[index] for epoch, index in keys]
        posteriors = torch.from_numpy(np.stack(rows, axis=1))
        samples = [self.samples[index] for _, index in keys]
        return {
            **dict(zip(POSTERIORS, posteriors, strict=True)),
            "name": [sample.name for sample in samples],
            "patient": [sample.patient for sample in samples],
        }


def cache_key(dataset: TifDataset, autoencoder: str, data: str) -> str:
    """Hash everything that the latents depend on.

    Args:
        dataset: Training pairs with their augmentation.
        autoencoder: Fingerprint of the autoencoder.
        data: Fingerprint of the data set.

    Returns:
        24 hexadecimal digits.
    """
    parts = [autoencoder, data, *(sample.name for sample in dataset.samples)]
    if dataset.augmentation is not None:
        parts += [str(dataset.seed), repr(sorted(vars(dataset.augmentation).items()))]
    return hashlib.sha256(to_bytes("\n".join(parts))).hexdigest()[:24]
