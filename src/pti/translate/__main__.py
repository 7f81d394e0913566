"""``python -m pti.translate``: sample edente images from dente images, and show how certain the model is."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pti.cli.command import command
from pti.cli.preflight import (
    POSITIVE,
    SPLITS,
    require_checkpoint_and_images,
    require_file,
    require_in_range,
    require_one_of,
)
from pti.common.errors import UsageError
from pti.common.path_settings import setting


def preflight(cfg: DictConfig) -> None:
    """Check the checkpoint, the folders and the numbers before anything heavy is imported."""
    require_checkpoint_and_images(cfg)
    folder = cfg.input_dir and Path(str(cfg.input_dir))
    if folder and (folder / "dente").is_dir() and (folder / "edente").is_dir():
        raise UsageError(
            f"{setting('input_dir', folder)}: found the folders dente and edente there, expected dente "
            f"images only. Set {setting('input_dir', folder / 'dente')}, or "
            f"{setting('data.root', folder)} and split."
        )
    require_one_of(cfg, {"split": SPLITS})
    require_in_range(cfg, dict.fromkeys(("samples", "steps", "batch_size", "num_samples"), POSITIVE))
    require_file("calibration", cfg.calibration)


@command("translate", preflight=preflight)
def main(cfg: DictConfig, output_dir: Path) -> None:
    """Find the images, translate those that aren't done yet, and summarize."""
    from hydra.utils import instantiate

    from pti.inference.bone_sizes import mean_height_loss_mm
    from pti.inference.calibration_file import read_height_calibration
    from pti.inference.devices import choose_devices
    from pti.inference.gate import open_gate
    from pti.inference.inputs import find_inputs
    from pti.inference.sampling import Sampling
    from pti.inference.translator import open_translator, translate_images
    from pti.translate.tables import finish

    devices = choose_devices(cfg.accelerator, cfg.devices)
    translator = open_translator(str(cfg.ckpt))
    overrides: Any = OmegaConf.to_container(cfg.data)
    inputs = find_inputs(
        translator.data,
        cfg.split,
        str(cfg.ckpt),
        input_dir=cfg.input_dir,
        overrides=overrides,
        num_samples=cfg.num_samples,
        skip=output_dir,
        with_targets=True,
    )
    sampling = Sampling(cfg.samples, instantiate(cfg.sampler), cfg.steps, cfg.guidance_scale, cfg.seed)
    calibration = None
    if cfg.calibration is not None:
        samples = 1 if translator.module.deterministic else cfg.samples
        calibration = read_height_calibration(Path(str(cfg.calibration)), samples, translator.sha256)
        for note in calibration.notes:
            print(f"Note: {note}.")
    gate = open_gate(translator.checkpoint, cfg.strict, cfg.batch_size)
    translations = translate_images(
        translator, inputs, output_dir, sampling, cfg.batch_size, devices, calibration, gate
    )
    known = any("target_height_mm" in row for row in translations.rows)
    loss = mean_height_loss_mm(inputs.training, translator.pixel_mm) if known and inputs.training else None
    finish(output_dir, translations, translator.checkpoint, loss)


if __name__ == "__main__":
    main()
