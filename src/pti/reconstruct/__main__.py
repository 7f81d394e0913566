"""``python -m pti.reconstruct``: send images through a trained VAE and show what it changed."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from pti.cli.command import command
from pti.cli.overrides import require_checkpoint_and_images
from pti.common.errors import UsageError
from pti.runs.locate import resolve

if TYPE_CHECKING:
    import torch

    from pti.data.input_images import InputImage
    from pti.inference.devices import Load
    from pti.inference.reconstructions import Reconstruct
    from pti.runs.manifest import Manifest

CHOICES = {"split": ("train", "val", "test"), "data.sources": ("target", "condition", "both")}


def preflight(cfg: DictConfig) -> None:
    """Refuse a checkpoint, a folder or a number that can't be, before anything heavy is imported."""
    require_checkpoint_and_images(cfg)
    for key, allowed in CHOICES.items():
        found = OmegaConf.select(cfg, key)
        if found is not None and found not in allowed:
            raise UsageError(f"{key}={found}: expected one of {', '.join(allowed)}.")
    for key in ("batch_size", "num_samples"):
        if cfg[key] is not None and cfg[key] < 1:
            raise UsageError(f"{key}={cfg[key]}: expected 1 or more.")


@command("reconstruct", preflight=preflight)
def main(cfg: DictConfig, output_dir: Path) -> None:
    """Find the images, look at them once, reconstruct those that aren't done yet, and sum up."""
    from functools import partial

    from pti.data.input_images import survey
    from pti.inference.devices import choose_devices
    from pti.inference.reconstructions import COMPARISONS, RAW, Reconstruct, fixed_data_range
    from pti.reconstruct.tables import METRICS, finish
    from pti.runs import checkpoint
    from pti.runs.manifest import Manifest
    from pti.runs.summary import hash_file

    devices = choose_devices(cfg.accelerator, cfg.devices)
    path = resolve(str(cfg.ckpt))
    module = checkpoint.load(path)
    trained = checkpoint.read(path)["config"]
    if not (hasattr(module, "reconstruct") and hasattr(module, "normalization")):
        raise UsageError(
            f"ckpt={path}: found a checkpoint of {type(module).__name__}, expected one of a VAE (stage 1), "
            "such as best:vae_baseline."
        )
    images, origin = find_inputs(cfg, trained["data"], output_dir)
    images = images[: cfg.num_samples]
    settings = {"command": "reconstruct", "checkpoint": hash_file(path), "images": origin}
    with Manifest(output_dir, settings, (RAW, COMPARISONS, METRICS)) as manifest:
        tissue = survey(images).tissue
        data_range, meaning = fixed_data_range(module.get_submodule("normalization"), tissue)
        work = Reconstruct(output_dir, trained["data"]["image_size"], trained["data"]["pixel_mm"], data_range)
        load = (lambda: module) if len(devices) == 1 else partial(checkpoint.load, path)
        reconstruct(load, work, images, manifest, cfg.batch_size, devices)
        finish(output_dir, manifest, [image.name for image in images], data_range, meaning, path)


def find_inputs(cfg: DictConfig, trained: dict[str, Any], output_dir: Path) -> "tuple[list[InputImage], str]":
    """The images that the command line asks for, and in words where they come from.

    Args:
        cfg: ``conf/reconstruct.yaml``, composed.
        trained: ``data`` of the checkpoint's configuration: for what the command line leaves open.
        output_dir: left out where it lies below ``input_dir``.
    """
    from pti.data.input_images import find_images
    from pti.inference.held_out import images_of_split

    if cfg.input_dir is not None:
        folder = Path(str(cfg.input_dir)).expanduser().absolute()
        return find_images(folder, skip=output_dir), str(folder)
    data = {**trained, **{key: value for key, value in cfg.data.items() if value is not None}}
    origin = f"{cfg.split} of {Path(data['root']).absolute()}, {data['sources']}"
    return images_of_split(data, cfg.split, str(cfg.ckpt)), origin


def reconstruct(
    load: "Load",
    work: "Reconstruct",
    images: "list[InputImage]",
    manifest: "Manifest",
    batch_size: int,
    devices: "list[torch.device]",
) -> None:
    """Reconstruct what isn't done yet, and note it."""
    from pti.common.progress import track
    from pti.inference.devices import run_batches

    waiting = [image for image in images if not manifest.is_done(image.name, image.path)]
    if len(waiting) < len(images):
        print(f"{len(images) - len(waiting)} of {len(images)} images were reconstructed earlier: going on.")
    batches = [waiting[start : start + batch_size] for start in range(0, len(waiting), batch_size)]
    results = (result for batch in run_batches(load, work, batches, devices) for result in batch)
    for result in track(results, "Reconstructing", total=len(waiting)):
        manifest.add(result.source.name, result.source.path, result.files, result.figures)


if __name__ == "__main__":
    main()
