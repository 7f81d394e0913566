"""``python -m pti.translate``: edente images, or sizes, of dente images, and how certain the model is."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from pti.cli.command import command
from pti.cli.preflight import (
    POSITIVE,
    SPLITS,
    listed,
    require_checkpoint_and_images,
    require_file,
    require_in_range,
    require_one_of,
)
from pti.common.errors import UsageError
from pti.common.path_settings import setting
from pti.common.precision import PRECISIONS, require_precision
from pti.common.terminal import print_notes

if TYPE_CHECKING:
    import torch

    from pti.inference.inputs import Inputs
    from pti.inference.loaded import LoadedSizePredictor, LoadedTranslator


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
    require_one_of(cfg, {"split": SPLITS, "precision": PRECISIONS})
    require_in_range(cfg, dict.fromkeys(("samples", "steps", "batch_size", "num_samples"), POSITIVE))
    require_file("calibration", cfg.calibration)
    require_in_range(cfg, {"pixel_mm": (0.001, 10)})  # as for the sizes that files state


@command("translate", preflight=preflight)
def main(cfg: DictConfig, output_dir: Path) -> None:
    """Find the images, translate those that aren't done yet, and summarize."""
    from pti.inference.devices import choose_devices
    from pti.inference.inputs import find_inputs
    from pti.inference.loaded import ensemble, open_predictor, predicts_sizes, require_same_split

    devices = choose_devices(cfg.accelerator, cfg.devices)
    require_precision(cfg.precision, devices[0])
    predictors = [open_predictor(name) for name in listed(cfg.ckpt)]
    predictor = predictors[0] if len(predictors) == 1 else ensemble(predictors)
    if not cfg.input_dir:
        require_same_split(predictor)
    overrides: Any = OmegaConf.to_container(cfg.data)
    inputs = find_inputs(
        predictor.data,
        cfg.split,
        ", ".join(listed(cfg.ckpt)),
        input_dir=cfg.input_dir,
        overrides=overrides,
        num_samples=cfg.num_samples,
        skip=output_dir,
        converted_dir=output_dir / "converted_inputs",
        pixel_mm=cfg.pixel_mm,
        with_targets=True,
    )
    if predicts_sizes(predictor):
        write_sizes(cfg, predictor, inputs, output_dir, devices[0])
    else:
        write_images(cfg, predictor, inputs, output_dir, devices)


def write_images(
    cfg: DictConfig,
    translator: "LoadedTranslator",
    inputs: "Inputs",
    output_dir: Path,
    devices: Sequence["torch.device"],
) -> None:
    """Sample images, and summarize them."""
    from hydra.utils import instantiate

    from pti.inference.bone_sizes import mean_height_loss_mm
    from pti.inference.calibration_file import read_calibration
    from pti.inference.gate import open_gate
    from pti.inference.sampling_settings import sampling_of
    from pti.inference.translator import translate_images
    from pti.translate.tables import finish

    sampling = sampling_of(cfg, instantiate(cfg.sampler))
    calibration = None
    if cfg.calibration is not None:
        samples = sampling.resolved(*translator.modules).samples
        calibration = read_calibration(Path(str(cfg.calibration)), samples, translator.sha256)
        print_notes(calibration.notes_on_images())
    gate = open_gate(translator.checkpoint, cfg.strict, cfg.batch_size)
    translations = translate_images(
        translator, inputs, output_dir, sampling, cfg.batch_size, devices, calibration, gate
    )
    known = any("target_height_mm" in row for row in translations.rows)
    loss = mean_height_loss_mm(inputs.training, translator.pixel_mm) if known and inputs.training else None
    finish(output_dir, translations, translator.checkpoint, loss)


def write_sizes(
    cfg: DictConfig,
    predictor: "LoadedSizePredictor",
    inputs: "Inputs",
    output_dir: Path,
    device: "torch.device",
) -> None:
    """Predict sizes, of a model that makes no images."""
    from pti.inference.calibration_file import read_calibration
    from pti.inference.sampling_settings import refuse_sampling
    from pti.metrics.calibration import QUANTILES
    from pti.translate.sizes import translate_sizes

    refuse_sampling(cfg, predictor.path)
    corrections, origin = {}, None
    if cfg.calibration is not None:
        path = Path(str(cfg.calibration))
        calibration = read_calibration(path, QUANTILES, predictor.sha256)
        corrections, origin = calibration.corrections, calibration.origin
        print_notes(calibration.notes())
    translate_sizes(predictor, inputs, output_dir, cfg.batch_size, device, corrections, origin)


if __name__ == "__main__":
    main()
