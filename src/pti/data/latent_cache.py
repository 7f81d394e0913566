"""The autoencoder's posteriors of every training pair, encoded once, in memory-mapped files.

A cache is a folder named after all that its content depends on, with one file ``view_000.npy`` (pairs, 3, C,
h, w) float32 for each augmented view of the training set: the condition's mean, the target's mean, the
target's standard deviation. A view is renamed when it is whole, so an interrupted build goes on with the view
it was at. The folder may be deleted at any time between runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pti.common.errors import DataError
from pti.data.dataset import Key, TifDataset

Encode = Callable[[dict[str, Any]], Tensor]
"""A batch of pairs -> (B, 3, C, h, w): the condition's mean, the target's mean and standard deviation."""

POSTERIORS = ("condition_mean", "target_mean", "target_std")
"""The names of the three in a batch."""


@dataclass(frozen=True)
class LatentCache:
    """Where the views of one training set are, and how to build those that are missing.

    Attributes:
        folder: named after `cache_key`.
        dataset: the training pairs, as images.
        views: augmented views; epoch e is served from view e % views.
    """

    folder: Path
    dataset: TifDataset
    views: int

    def missing(self) -> list[int]:
        """The views that are yet to be built."""
        return [view for view in range(self.views) if not self.path(view).is_file()]

    def path(self, view: int) -> Path:
        """The file of a view."""
        return self.folder / f"view_{view:03d}.npy"

    def create(self, view: int, latent_shape: Sequence[int]) -> None:
        """Make the file that all processes then write a view into; by one of them."""
        shape = (len(self.dataset), 3, *latent_shape)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self._part(view), "wb") as file:
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                _reserve(file, 4 * int(np.prod(shape)))
        except OSError as error:
            with contextlib.suppress(OSError):
                self._part(view).unlink(missing_ok=True)
            need = 4 * int(np.prod(shape)) / 2**20
            fix = f"Free {need:,.0f} MB for each view, or set data.cache_dir, or model.cache_latents=false."
            raise DataError(
                f"{self.folder}: latents can't be cached ({error.strerror or error}). {fix}"
            ) from None

    def write(self, view: int, batches: Iterable[Sequence[int]], encode: Encode) -> None:
        """Encode these pairs of a view into its file; each process its own share."""
        rows = np.load(self._part(view), mmap_mode="r+")
        for batch in batches:
            found = encode(self.dataset.__getitems__([(view, index) for index in batch]))
            rows[list(batch)] = found.float().cpu().numpy()
        rows.flush()

    def finish(self, view: int) -> None:
        """The view is whole; by one process, when all have written."""
        os.replace(self._part(view), self.path(view))

    def _part(self, view: int) -> Path:
        return self.path(view).with_suffix(".part")


class LatentDataset(Dataset):
    """Batches of posteriors from a finished cache, for the keys that `TifDataset` takes.

    A batch holds ``condition_mean``, ``target_mean`` and ``target_std``, (B, C, h, w) float32; ``name`` and
    ``patient``, lists of str.
    """

    def __init__(self, cache: LatentCache) -> None:
        self.cache = cache
        self.samples = cache.dataset.samples
        self._views: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[Key]) -> dict[str, Any]:
        """The batch of these keys."""
        rows = np.stack([self._view(epoch % self.cache.views)[index] for epoch, index in keys], axis=1)
        samples = [self.samples[index] for _, index in keys]
        return {
            **dict(zip(POSTERIORS, torch.from_numpy(rows), strict=True)),
            "name": [sample.name for sample in samples],
            "patient": [sample.patient for sample in samples],
        }

    def _view(self, view: int) -> np.ndarray:
        if view not in self._views:
            self._views[view] = np.load(self.cache.path(view), mmap_mode="r")
        return self._views[view]

    def __getstate__(self) -> dict[str, Any]:
        # A mapping would be sent to a spawned worker as its whole content.
        return {**self.__dict__, "_views": {}}


def cache_key(dataset: TifDataset, autoencoder: str, data: str) -> str:
    """24 hexadecimal digits: of the autoencoder's and the data's fingerprints, pairs and augmentation."""
    augmentation = dataset.augmentation
    parts = [autoencoder, data, *(sample.name for sample in dataset.samples)]
    if augmentation is not None:
        numbers = {
            name: value for name, value in vars(augmentation).items() if isinstance(value, (int, float))
        }
        parts += [str(dataset.seed), repr(sorted(numbers.items()))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


def _reserve(file: IO[bytes], size: int) -> None:
    """Take the space now: in a mapping, a full disk would end the process without a word."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), file.tell(), size)
    else:
        file.truncate(file.tell() + size)
