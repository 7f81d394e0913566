"""Posteriors of many images with what is known of each, in memory and in one file for other programs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pti.data import resize, tif
from pti.data.input_images import InputImage
from pti.data.splits import evenly_spaced
from pti.latent_study.names import ATTRIBUTES
from pti.losses import kl_per_image
from pti.metrics.morphometry import bone_mask, measure

UNGROUPED = "images"
"""The group of images that lie in no folder of their own."""

_READERS = 4
_COLUMNS = ("name", "group", "patient", "split")
_ARRAYS = ("mean", "std", "kl")


@dataclass(frozen=True)
class Latents:
    """Posteriors of N images, sorted by name; the arrays of ``latents.npz``.

    Attributes:
        name: (N,) text, ``dente/1000_HA_2021_02_545``.
        group: (N,) text, the folder in the name: ``dente``, ``edente``.
        patient: (N,) text, empty where the name doesn't say.
        split: (N,) text, ``train``, ``val``, ``test``, or empty for images from a folder.
        mean: (N, C, h, w) float32, the posterior's mean: the latents.
        std: (N, C) float32, the posterior's standard deviation, averaged over positions.
        kl: (N, C) float32, nats: KL(posterior ‖ N(0, 1)) of a channel, summed over positions.
        attributes: (N,) float64 for each of `pti.latent_study.names.ATTRIBUTES`; NaN where it can't be measured.
    """

    name: np.ndarray
    group: np.ndarray
    patient: np.ndarray
    split: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    kl: np.ndarray
    attributes: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.name)

    @property
    def flat(self) -> np.ndarray:
        """(N, C·h·w) float32."""
        return self.mean.reshape(len(self), -1)

    @property
    def groups(self) -> list[str]:
        """The groups' names, sorted: dente comes before edente."""
        return sorted(set(self.group.tolist()))

    def pairs(self) -> np.ndarray:
        """(P, 2) indices of images that show one cross-section in the first and in the second group."""
        if len(self.groups) < 2:
            return np.empty((0, 2), int)
        first, second = (
            {pair_of(name): index for index, name in enumerate(self.name) if self.group[index] == group}
            for group in self.groups[:2]
        )
        found = [(first[pair], second[pair]) for pair in first if pair in second]
        return np.array(found, int).reshape(-1, 2)


def group_of(name: str) -> str:
    """``dente`` of ``dente/1000_HA_2021_02_545``."""
    return name.split("/")[-2] if "/" in name else UNGROUPED


def pair_of(name: str) -> str:
    """The name without its group: the same for the images of one pair."""
    *folders, file = name.split("/")
    return "/".join([*folders[:-1], file])


def spread_over_patients(images: list[InputImage], most: int | None) -> list[InputImage]:
    """At most so many images, as whole pairs, spread evenly_spaced over patients and names; all for None."""
    if most is None or most >= len(images):
        return images
    pairs: dict[str, list[InputImage]] = {}
    for image in images:
        pairs.setdefault(pair_of(image.name), []).append(image)
    largest = max(map(len, pairs.values()))
    by_patient = sorted(pairs, key=lambda pair: (pairs[pair][0].patient, pair))
    kept = evenly_spaced(by_patient, max(1, most // largest))
    return sorted((image for pair in kept for image in pairs[pair]), key=lambda image: image.name)


@dataclass(frozen=True)
class Encoded:
    """One image's share of `Latents`."""

    name: str
    patient: str
    mean: np.ndarray
    std: np.ndarray
    kl: np.ndarray
    attributes: dict[str, float]


@dataclass(frozen=True)
class Encode:
    """Encodes a batch of images and measures their bones.

    Attributes:
        image_size: side of the square that the network sees, pixels.
        pixel_mm: edge of a pixel in mm, for files that don't say.
    """

    image_size: int
    pixel_mm: float

    def __call__(self, module: nn.Module, sources: Sequence[InputImage]) -> list[Encoded]:
        """The posteriors of a batch, in its order; ``module`` has ``encode(raw) -> Posterior``."""
        with ThreadPoolExecutor(_READERS) as threads:
            images = list(threads.map(lambda source: tif.read(source.path), sources))
            attributes = list(threads.map(self._measure, images))
        device = next(module.parameters()).device
        squares = np.stack([resize.pad_and_resize(image.pixels, self.image_size) for image in images])[
            :, None
        ]
        posterior = module.encode(torch.from_numpy(squares).to(device))  # pyright: ignore[reportCallIssue]
        count, channels = posterior.mean.shape[:2]
        parts = (part.float().flatten(0, 1)[:, None] for part in (posterior.mean, posterior.std))
        kl = kl_per_image(*parts).reshape(count, channels)
        arrays = [part.float().cpu().numpy() for part in (posterior.mean, posterior.std.mean((2, 3)), kl)]
        return [
            Encoded(
                source.name,
                source.patient,
                arrays[0][index],
                arrays[1][index],
                arrays[2][index],
                attributes[index],
            )
            for index, source in enumerate(sources)
        ]

    def _measure(self, image: tif.TifImage) -> dict[str, float]:
        mask = bone_mask(image.pixels)
        found = measure(mask, image.pixel_mm or self.pixel_mm).as_dict()
        found["density"] = float(image.pixels[mask].mean()) if mask.any() else np.nan
        return {name: found[name] for name in ATTRIBUTES}


def gather(encoded: Iterable[Encoded], splits: Mapping[str, str]) -> Latents:
    """All images' shares as arrays, sorted by name.

    Args:
        encoded: in any order.
        splits: name -> side of the data set, for the images that have one.
    """
    rows = sorted(encoded, key=lambda row: row.name)
    texts = (
        [row.name for row in rows],
        [group_of(row.name) for row in rows],
        [row.patient for row in rows],
        [splits.get(row.name, "") for row in rows],
    )
    return Latents(
        *(np.array(column, str) for column in texts),
        *(np.stack([getattr(row, name) for row in rows]) for name in _ARRAYS),
        attributes={name: np.array([row.attributes[name] for row in rows]) for name in ATTRIBUTES},
    )


def save(latents: Latents, path: Path) -> None:
    """Write an ``.npz`` (beside, then renamed into place) that opens without pickle."""
    columns: dict[str, Any] = {name: getattr(latents, name) for name in (*_COLUMNS, *_ARRAYS)}
    columns |= latents.attributes
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        np.savez(file, **columns)
    os.replace(temporary, path)


def load(path: Path) -> Latents:
    """What `save` wrote.

    Raises:
        OSError, ValueError, KeyError, BadZipFile: it isn't there, or isn't such a file.
    """
    with np.load(path, allow_pickle=False) as file:
        columns = [file[name] for name in (*_COLUMNS, *_ARRAYS)]
        return Latents(*columns, attributes={name: file[name] for name in ATTRIBUTES})
