"""The latent-space study: a checkpoint, its images and their latents, which are kept in a cache."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from torch import nn

from pti.common.errors import UsageError
from pti.common.path_settings import setting
from pti.common.progress import track
from pti.data.input_images import InputImage
from pti.inference.devices import choose_devices, run_batches
from pti.inference.inputs import find_inputs
from pti.inference.reconstructions import training_bounds
from pti.inference.survey import print_warnings, survey
from pti.latent_study.latents import (
    Encode,
    Latents,
    concatenate,
    load_latents,
    save_latents,
    spread_over_patients,
)
from pti.latent_study.projection import (
    PrincipalComponents,
    Projection,
    ProjectionSettings,
    adapt_to_count,
    project,
)
from pti.modules.protocols import Autoencoder, autoencoder_of
from pti.runs.checkpoint import Checkpoint, open_checkpoint
from pti.runs.summary import hash_config


@dataclass(frozen=True)
class StudySettings:
    """Settings of a study; the keys of ``conf/latent_study.yaml``, which explains them."""

    ckpt: str
    input_dir: str | None
    split: str
    data: Mapping[str, Any]
    max_images: int | None
    method: str
    color_by: str
    n_neighbors: int
    min_dist: float
    perplexity: float
    seed: int
    cache_dir: str | None
    batch_size: int
    accelerator: str
    devices: int | str

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> StudySettings:
        """Take the settings out of a command's resolved, plain configuration."""
        return cls(**{field.name: config[field.name] for field in fields(cls)})


@dataclass(frozen=True)
class LatentStudy:
    """A checkpoint, images and their latents.

    Attributes:
        checkpoint: The opened checkpoint.
        module: Its module.
        autoencoder: The module itself, or the frozen autoencoder of a stage-2 module.
        images: Images in the order of the latents, sorted by name.
        origin: Description of where the images come from.
        fingerprint: Hash of the images' names, paths, sizes and modification times.
        latents: Latents of the images.
    """

    checkpoint: Checkpoint
    module: nn.Module
    autoencoder: Autoencoder
    images: Sequence[InputImage]
    origin: str
    fingerprint: str
    latents: Latents


def open_study(settings: StudySettings, output_dir: Path) -> LatentStudy:
    """Load the checkpoint, find the images and encode them, unless the cache holds their latents.

    Raises:
        UsageError: The checkpoint holds no autoencoder, or a requested device doesn't exist.
        DataError: There are no images, or some can't be used; the message names them.
    """
    checkpoint = open_checkpoint(settings.ckpt)
    module = checkpoint.load_module()
    autoencoder = autoencoder_of(module)
    if autoencoder is None:
        raise UsageError(
            f"{setting('ckpt', checkpoint.path)}: found a {type(module).__name__}, which has no latent "
            "space; expected a VAE or a model in its latents, such as best:vae_baseline."
        )
    data = checkpoint.config["data"]
    inputs = find_inputs(
        data,
        settings.split,
        settings.ckpt,
        input_dir=settings.input_dir,
        overrides={**settings.data, "sources": "both"},
        skip=output_dir,
    )
    images = spread_over_patients(inputs.images, settings.max_images)
    fingerprint = hash_config({image.name: _file_state(image.path) for image in images})[:16]
    cached = None
    if settings.cache_dir is not None:
        splits = {image.name: inputs.splits.get(image.name, "") for image in images}
        key = hash_config({"checkpoint": checkpoint.sha256, "images": fingerprint, "splits": splits})[:24]
        cached = Path(settings.cache_dir) / f"latents_{key}.npz"
    latents = None if cached is None else _load_cached(cached)
    if latents is None:
        print_warnings(survey(images).warnings(training_bounds(autoencoder.normalization)))
        encode = Encode(data["image_size"], data["pixel_mm"], inputs.splits)
        latents = concatenate(_encode(settings, checkpoint.path, module, encode, images))
        if cached is not None:
            _save_cached(latents, cached)
    return LatentStudy(checkpoint, module, autoencoder, images, inputs.origin, fingerprint, latents)


def project_all(
    settings: StudySettings, components: PrincipalComponents, methods: Iterable[str]
) -> dict[str, Projection]:
    """Project by ``settings.method`` first, then by ``methods``; print the settings that were adapted."""
    names = list(dict.fromkeys([settings.method, *methods]))
    requested = ProjectionSettings(
        settings.n_neighbors, settings.min_dist, settings.perplexity, settings.seed
    )
    adapted, changes = adapt_to_count(requested, len(components.scores))
    if changes and names != ["pca"]:
        print(changes)
    return {name: project(components, name, adapted) for name in track(names, "Projecting")}


def _encode(
    settings: StudySettings, path: Path, module: nn.Module, encode: Encode, images: Sequence[InputImage]
) -> Iterable[Latents]:
    devices = choose_devices(settings.accelerator, settings.devices)
    load = (lambda: module) if len(devices) == 1 else partial(_load_module, path)
    starts = range(0, len(images), settings.batch_size)
    batches = [images[start : start + settings.batch_size] for start in starts]
    return track(run_batches(load, encode, batches, devices), "Encoding", total=len(batches))


def _load_module(path: Path) -> nn.Module:
    """Load the module of a checkpoint in a worker process."""
    return open_checkpoint(path).load_module()


def _load_cached(path: Path) -> Latents | None:
    """Load latents from the cache; delete a damaged file, which a full disk can leave behind."""
    try:
        return load_latents(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, BadZipFile):
        with suppress(OSError):  # a read-only cache
            path.unlink(missing_ok=True)
        return None


def _save_cached(latents: Latents, path: Path) -> None:
    """Save latents in the cache; a cache that can't be written to only costs time."""
    try:
        save_latents(latents, path)
    except OSError as error:
        print(
            f"Note: the latents aren't kept in cache_dir={path.parent} ({error.strerror or error}). "
            "Set cache_dir to a folder that can be written to, or to null.",
            file=sys.stderr,
        )


def _file_state(path: Path) -> list[Any]:
    status = path.stat()
    return [str(path), status.st_size, status.st_mtime_ns]
