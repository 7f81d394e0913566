"""``python -m pti.reconstruct``: reconstruct images with a trained VAE, and show what it changed."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pti.cli.command import command
from pti.cli.preflight import (
    POSITIVE,
    SPLITS,
    require_checkpoint_and_images,
    require_in_range,
    require_one_of,
)
from pti.common.errors import UsageError
from pti.common.path_settings import setting
from pti.common.terminal import print_notes


def preflight(cfg: DictConfig) -> None:
    """Check the checkpoint, the folders and the numbers before anything heavy is imported."""
    require_checkpoint_and_images(cfg)
    require_one_of(cfg, {"split": SPLITS, "data.sources": ("target", "condition", "both", None)})
    require_in_range(cfg, dict.fromkeys(("batch_size", "num_samples"), POSITIVE))
    require_in_range(cfg, {"pixel_mm": (0.001, 10)})  # as for the sizes that files state


@command("reconstruct", preflight=preflight)
def main(cfg: DictConfig, output_dir: Path) -> None:
    """Find the images, reconstruct those that aren't done yet, and summarize."""
    from functools import partial

    from pti.inference.devices import choose_devices
    from pti.inference.inputs import find_inputs
    from pti.inference.reconstructions import (
        COMPARISONS,
        RAW,
        ReconstructBatch,
        fixed_data_range,
        reconstruct_all,
        training_bounds,
    )
    from pti.inference.survey import print_warnings, survey
    from pti.modules.protocols import is_autoencoder
    from pti.reconstruct.tables import METRICS, finish
    from pti.runs import checkpoint
    from pti.runs.manifest import Manifest

    devices = choose_devices(cfg.accelerator, cfg.devices)
    opened = checkpoint.open_checkpoint(str(cfg.ckpt))
    module = opened.load_module()
    if not is_autoencoder(module):
        raise UsageError(
            f"{setting('ckpt', opened.path)}: found a checkpoint of {type(module).__name__}, expected one "
            "of a VAE (stage 1), such as best:vae_baseline."
        )
    data = opened.config["data"]
    overrides: Any = OmegaConf.to_container(cfg.data)
    inputs = find_inputs(
        data,
        cfg.split,
        str(cfg.ckpt),
        input_dir=cfg.input_dir,
        overrides=overrides,
        num_samples=cfg.num_samples,
        skip=output_dir,
        converted_dir=output_dir / "converted_inputs",
        pixel_mm=cfg.pixel_mm,
    )
    origin = inputs.origin if cfg.input_dir else f"{inputs.origin}, {cfg.data.sources or data['sources']}"
    settings = {"command": "reconstruct", "checkpoint": opened.sha256, "images": origin}
    with Manifest(output_dir, settings, (RAW, COMPARISONS, METRICS)) as manifest:
        surveyed = survey(inputs.images)
        warnings = surveyed.warnings(training_bounds(module.normalization))
        print_warnings(warnings)
        print_notes(surveyed.pixel_size_notes(data["pixel_mm"], "the checkpoint's data.pixel_mm"))
        data_range, meaning = fixed_data_range(module.normalization, surveyed.tissue_range)
        work = ReconstructBatch(output_dir, data["image_size"], data["pixel_mm"], data_range)
        load = (lambda: module) if len(devices) == 1 else partial(checkpoint.load, opened.path)
        reconstruct_all(load, work, inputs.images, manifest, cfg.batch_size, devices)
        names = [image.name for image in inputs.images]
        finish(output_dir, manifest, names, data_range, meaning, opened, warnings)


if __name__ == "__main__":
    main()
