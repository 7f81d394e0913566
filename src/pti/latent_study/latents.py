"""Posteriors and bone attributes of many images, in memory and as an ``.npz`` file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pti.data import resize, tif
from pti.data.input_images import InputImage
from pti.data.splits import evenly_spaced
from pti.latent_study.options import ATTRIBUTES
from pti.losses import kl_per_image
from pti.metrics.morphometry import bone_mask, measure
from pti.modules.protocols import autoencoder_of

UNGROUPED = "images"
"""Group of the images that lie directly in the input folder."""

_READERS = 4
_COLUMNS = ("name", "group", "patient", "split", "mean", "std", "kl")


@dataclass(frozen=True)
class Latents:
    """Posteriors of N images, sorted by name; the arrays of ``latents.npz``.

    Attributes:
        name: (N,) text, such as ``dente/1000_HA_2021_02_545``.
        group: (N,) text, the folder in the name: ``dente`` or ``edente``.
        patient: (N,) text, empty where the name doesn't contain a patient.
        split: (N,) text, ``train``, ``val`` or ``test``; empty for images from a folder.
        mean: (N, C, h, w) float32, the posterior mean, used as the latents.
        std: (N, C) float32, the posterior standard deviation, averaged over positions.
        kl: (N, C) float32, KL(posterior ‖ N(0, 1)) of each channel in nats, summed over positions.
        attributes: (N,) float64 for each of `pti.latent_study.options.ATTRIBUTES`; NaN where it can't be
            measured.
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
        """Latents as a (N, C·h·w) float32 matrix."""
        return self.mean.reshape(len(self), -1)

    @property
    def groups(self) -> list[str]:
        """Names of the groups, sorted: dente comes before edente."""
        return sorted(set(self.group.tolist()))

    def pairs(self) -> np.ndarray:
        """(P, 2) indices of the first and the second group's image of the same cross-section."""
        if len(self.groups) < 2:
            return np.empty((0, 2), int)
        first, second = (
            {pair_of(self.name[index]): index for index in np.flatnonzero(self.group == group)}
            for group in self.groups[:2]
        )
        return np.array([(first[pair], second[pair]) for pair in first if pair in second], int).reshape(-1, 2)


def group_of(name: str) -> str:
    """Return the group in an image's name: ``dente`` for ``dente/1000_HA_2021_02_545``."""
    return name.split("/")[-2] if "/" in name else UNGROUPED


def pair_of(name: str) -> str:
    """Return the name without its group, which is the same for both images of a pair."""
    *folders, file = name.split("/")
    return "/".join([*folders[:-1], file])


def spread_over_patients(images: Sequence[InputImage], max_images: int | None) -> list[InputImage]:
    """Select at most ``max_images`` images as whole pairs, evenly spaced over patients and names.

    Returns:
        The selected images, sorted by name; all images for ``max_images=None``.
    """
    if max_images is None or max_images >= len(images):
        return list(images)
    pairs: dict[str, list[InputImage]] = {}
    for image in images:
        pairs.setdefault(pair_of(image.name), []).append(image)
    images_per_pair = max(map(len, pairs.values()))
    by_patient = sorted(pairs, key=lambda pair: (pairs[pair][0].patient, pair))
    kept = evenly_spaced(by_patient, max(1, max_images // images_per_pair))
    return sorted((image for pair in kept for image in pairs[pair]), key=lambda image: image.name)


@dataclass(frozen=True)
class Encode:
    """Encode a batch of images and measure their bone.

    Attributes:
        image_size: Side length of the network's square input, pixels.
        pixel_mm: Pixel size in mm for files that don't contain one.
        splits: Split of each image by name; empty for images from a folder.
    """

    image_size: int
    pixel_mm: float
    splits: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, module: nn.Module, sources: Sequence[InputImage]) -> Latents:
        """Return the latents of a batch, in its order; ``module`` is or contains an autoencoder."""
        autoencoder = autoencoder_of(module)
        assert autoencoder is not None
        with ThreadPoolExecutor(_READERS) as threads:
            images = list(threads.map(lambda source: tif.read(source.path), sources))
            attributes = list(threads.map(self._measure, images))
        device = next(module.parameters()).device
        squares = np.stack([resize.pad_and_resize(image.pixels, self.image_size)[None] for image in images])
        posterior = autoencoder.encode(torch.from_numpy(squares).to(device))
        mean, std = posterior.mean.float(), posterior.std.float()
        kl = kl_per_image(mean.flatten(0, 1)[:, None], std.flatten(0, 1)[:, None]).reshape(mean.shape[:2])
        names = [source.name for source in sources]
        return Latents(
            np.array(names, str),
            np.array([group_of(name) for name in names], str),
            np.array([source.patient for source in sources], str),
            np.array([self.splits.get(name, "") for name in names], str),
            *(part.cpu().numpy() for part in (mean, posterior.std.mean((2, 3)).float(), kl)),
            attributes={name: np.array([row[name] for row in attributes]) for name in ATTRIBUTES},
        )

    def _measure(self, image: tif.TifImage) -> dict[str, float]:
        mask = bone_mask(image.pixels)
        density = float(image.pixels[mask].mean()) if mask.any() else np.nan
        return {**measure(mask, image.pixel_mm or self.pixel_mm).as_dict(), "density": density}


def concatenate(batches: Iterable[Latents]) -> Latents:
    """Join the latents of batches and sort them by name."""
    parts = list(batches)
    order = np.argsort(np.concatenate([part.name for part in parts]), kind="stable")
    columns = [np.concatenate(list(map(attrgetter(name), parts)))[order] for name in _COLUMNS]
    attributes = {
        name: np.concatenate([part.attributes[name] for part in parts])[order] for name in ATTRIBUTES
    }
    return Latents(*columns, attributes=attributes)


def save_latents(latents: Latents, path: Path) -> None:
    """Write an ``.npz`` file that can be read without pickle; a reader never sees a partial file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        np.savez(file, **{name: getattr(latents, name) for name in _COLUMNS}, **latents.attributes)  # pyright: ignore[reportArgumentType]
    os.replace(temporary, path)


def load_latents(path: Path) -> Latents:
    """Read a file that `save_latents` wrote.

    Raises:
        OSError, ValueError, KeyError, BadZipFile: The file is missing or isn't such a file.
    """
    with np.load(path, allow_pickle=False) as file:
        columns = [file[name] for name in _COLUMNS]
        return Latents(*columns, attributes={name: file[name] for name in ATTRIBUTES})
