"""What `analyze` and `explore` share: the checks beforehand, the images, their latents (kept in a cache)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from pti.cli.overrides import require_checkpoint_and_images
from pti.common.errors import UsageError
from pti.data.layouts import PATIENT_PATTERN, SPLITS
from pti.latent_study.names import COLORS, METHODS
from pti.runs.locate import resolve

if TYPE_CHECKING:
    from torch import nn

    from pti.data.input_images import InputImage
    from pti.latent_study.latents import Latents
    from pti.latent_study.projection import Components, Projection

_RANGES = {
    "n_neighbors": (2, None),
    "min_dist": (0, 1),
    "perplexity": (1, None),
    "seed": (0, 2**32 - 1),
    "batch_size": (1, None),
    "max_images": (1, None),
}


@dataclass(frozen=True)
class LatentStudy:
    """A checkpoint, images and their latents.

    Attributes:
        checkpoint: the file.
        module: what it holds, on the CPU.
        first_stage: the autoencoder in it; the module itself, or the frozen part of a stage-2 module.
        trained: the configuration of its training.
        images: by name, in the latents' order.
        origin: where the images come from, in words.
        fingerprint: of the images' names, files, sizes and times of change.
        latents: of the images.
    """

    checkpoint: Path
    module: nn.Module
    first_stage: nn.Module
    trained: dict[str, Any]
    images: list[InputImage]
    origin: str
    fingerprint: str
    latents: Latents


def check_study(cfg: DictConfig, methods_key: str) -> None:
    """Refuse a checkpoint, a folder, a choice or a number that can't be; for preflights."""
    require_checkpoint_and_images(cfg)
    _one_of("split", [cfg.split], (*SPLITS, "all"))
    _one_of("color_by", [cfg.color_by], COLORS)
    _one_of("method", [cfg.method], METHODS)
    _one_of(methods_key, list(cfg[methods_key]), METHODS)
    check_ranges(cfg, _RANGES)


def check_ranges(cfg: DictConfig, ranges: dict[str, tuple[float, float | None]]) -> None:
    """Refuse numbers outside (lowest, highest); null passes."""
    for key, (low, high) in ranges.items():
        value = OmegaConf.select(cfg, key)
        if value is not None and (value < low or (high is not None and value > high)):
            expected = f"{low} or more" if high is None else f"{low} to {high}"
            raise UsageError(f"{key}={value}: expected {expected}.")


def _one_of(key: str, found: list[Any], allowed: Any) -> None:
    for value in found:
        if value not in allowed:
            raise UsageError(f"{key}={value}: expected one of {', '.join(allowed)}.")


def open_study(cfg: DictConfig, output_dir: Path) -> LatentStudy:
    """Load the checkpoint, find the images, look at them once and encode those that the cache doesn't hold.

    Raises:
        UsageError: the checkpoint holds no autoencoder, or there are no such devices.
        DataError: images can't be used, each named; or there are none.
    """
    from pti.runs import checkpoint
    from pti.runs.summary import hash_config

    path = resolve(str(cfg.ckpt))
    module = checkpoint.load(path)
    trained = checkpoint.read(path)["config"]
    first_stage: nn.Module = getattr(module, "first_stage", module)
    if not (hasattr(first_stage, "encode") and hasattr(first_stage, "decode")):
        raise UsageError(
            f"ckpt={path}: found a checkpoint of {type(module).__name__}, which has no latent space; "
            "expected one of a VAE or of a model in its latents, such as best:vae_baseline."
        )
    images, splits, origin = find_inputs(cfg, trained["data"], output_dir)
    fingerprint = hash_config({image.name: _state(image.path) for image in images})[:16]
    latents = _encoded(cfg, path, first_stage, trained, images, splits, fingerprint)
    return LatentStudy(path, module, first_stage, trained, images, origin, fingerprint, latents)


def find_inputs(
    cfg: DictConfig, trained: dict[str, Any], output_dir: Path
) -> tuple[list[InputImage], dict[str, str], str]:
    """The images, sorted by name, the side that each stands on (none for a folder's), and their origin.

    Args:
        cfg: with the keys of ``conf/latent_study.yaml``.
        trained: ``data`` of the checkpoint's configuration: for what the command line leaves open.
        output_dir: left out where it lies below ``input_dir``.
    """
    from pti.data.input_images import find_images
    from pti.inference.held_out import images_of_split
    from pti.latent_study.latents import spread_over_patients

    if cfg.input_dir is not None:
        folder = Path(str(cfg.input_dir)).expanduser().absolute()
        pattern = trained["layout"].get("patient_pattern", PATIENT_PATTERN)
        return (
            spread_over_patients(find_images(folder, pattern, skip=output_dir), cfg.max_images),
            {},
            str(folder),
        )
    data = {
        **trained,
        **{key: value for key, value in cfg.data.items() if value is not None},
        "sources": "both",
    }
    shares = zip(SPLITS, data["fractions"], strict=True)
    every = [side for side, share in shares if share > 0 or data.get(f"{side}_root")]
    found = {
        image: side
        for side in (every if cfg.split == "all" else (cfg.split,))
        for image in images_of_split(data, side, str(cfg.ckpt))
    }
    images = spread_over_patients(sorted(found, key=lambda image: image.name), cfg.max_images)
    origin = f"{cfg.split} of {Path(data['root']).absolute()}"
    return images, {image.name: found[image] for image in images}, origin


def components_of(study: LatentStudy, seed: int) -> Components:
    """The latents by their principal components."""
    from pti.latent_study.projection import principal_components

    return principal_components(study.latents.flat, seed)


def project_all(cfg: DictConfig, components: Components, methods: list[str]) -> dict[str, Projection]:
    """The projections by method, ``cfg.method`` first; says so where settings had to be changed."""
    from pti.common.progress import track
    from pti.latent_study.projection import Settings, fit_to, project

    wanted = list(dict.fromkeys([cfg.method, *methods]))
    settings = Settings(cfg.n_neighbors, cfg.min_dist, cfg.perplexity, cfg.seed)
    fitted, changed = fit_to(settings, len(components.scores))
    if changed and wanted != ["pca"]:
        print(changed)
    return {name: project(components, name, fitted) for name in track(wanted, "Projecting")}


def _encoded(
    cfg: DictConfig,
    path: Path,
    first_stage: nn.Module,
    trained: dict[str, Any],
    images: list[InputImage],
    splits: dict[str, str],
    fingerprint: str,
) -> Latents:
    """The latents from the cache, or else encoded now and kept there."""
    from zipfile import BadZipFile

    from pti.latent_study import latents as store
    from pti.runs.summary import hash_config, hash_file

    key = hash_config({"checkpoint": hash_file(path), "images": fingerprint, "splits": splits})[:24]
    cached = None if cfg.cache_dir is None else Path(cfg.cache_dir).expanduser() / f"latents_{key}.npz"
    if cached is not None and cached.is_file():
        try:
            return store.load(cached)
        except (OSError, ValueError, KeyError, BadZipFile):
            cached.unlink(missing_ok=True)  # cut short by a full disk, say
    found = store.gather(_encode(cfg, path, first_stage, trained, images), splits)
    if cached is not None:
        store.save(found, cached)
    return found


def _encode(
    cfg: DictConfig, path: Path, first_stage: nn.Module, trained: dict[str, Any], images: list[InputImage]
):
    from functools import partial

    from pti.common.progress import track
    from pti.data.input_images import survey
    from pti.inference.devices import choose_devices, run_batches
    from pti.latent_study.latents import Encode

    devices = choose_devices(cfg.accelerator, cfg.devices)
    survey(images)  # names all that can't be used before the work begins
    work = Encode(trained["data"]["image_size"], trained["data"]["pixel_mm"])
    load = (lambda: first_stage) if len(devices) == 1 else partial(load_first_stage, path)
    batches = [images[start : start + cfg.batch_size] for start in range(0, len(images), cfg.batch_size)]
    results = (row for batch in run_batches(load, work, batches, devices) for row in batch)
    yield from track(results, "Encoding", total=len(images))


def load_first_stage(path: Path) -> nn.Module:
    """The autoencoder of a checkpoint; a function of its own, so that other processes can be given it."""
    from pti.runs import checkpoint

    module = checkpoint.load(path)
    return getattr(module, "first_stage", module)


def _state(path: Path) -> list[Any]:
    status = path.stat()
    return [str(path), status.st_size, status.st_mtime_ns]
