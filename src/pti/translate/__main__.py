"""``python -m pti.translate``: sample the edente images of dente images, and show how sure the model is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from pti.cli.command import command
from pti.cli.overrides import require_checkpoint_and_images
from pti.common.conf_dir import CONF_DIR
from pti.common.errors import UsageError
from pti.runs.locate import resolve

if TYPE_CHECKING:
    import torch

    from pti.data.input_images import InputImage
    from pti.inference.calibration_file import HeightCalibration
    from pti.inference.sampling import Sampling
    from pti.inference.tables import Translations

SPLITS = ("train", "val", "test")
SAMPLERS = CONF_DIR / "model" / "sampler"


def preflight(cfg: DictConfig) -> None:
    """Refuse a checkpoint, a folder, a sampler or a number that can't be, before anything heavy is
    imported."""
    require_checkpoint_and_images(cfg)
    if cfg.input_dir is not None:
        _require_conditions_alone(Path(str(cfg.input_dir)).expanduser(), cfg)
    samplers = sorted(path.stem for path in SAMPLERS.glob("*.yaml"))
    for key, allowed in (("split", SPLITS), ("sampler", samplers)):
        if cfg[key] is not None and cfg[key] not in allowed:
            raise UsageError(f"{key}={cfg[key]}: expected one of {', '.join(allowed)}.")
    for key in ("samples", "steps", "batch_size", "num_samples"):
        if cfg[key] is not None and cfg[key] < 1:
            raise UsageError(f"{key}={cfg[key]}: expected 1 or more.")
    if cfg.calibration is not None and not Path(str(cfg.calibration)).expanduser().is_file():
        raise UsageError(f"calibration={cfg.calibration}: expected a file, found none there.")


def _require_conditions_alone(folder: Path, cfg: DictConfig) -> None:
    if (folder / "dente").is_dir() and (folder / "edente").is_dir():
        raise UsageError(
            f"input_dir={cfg.input_dir}: found the folders dente and edente there, expected dente images "
            f"alone. Set input_dir={cfg.input_dir}/dente, or data.root={cfg.input_dir} and split."
        )


@command("translate", preflight=preflight)
def main(cfg: DictConfig, output_dir: Path) -> None:
    """Find the images, translate those that aren't done yet, and sum up."""
    from pti.inference.calibration_file import read_height_calibration
    from pti.inference.devices import choose_devices
    from pti.inference.sampling import Sampling
    from pti.inference.tables import finish
    from pti.metrics.translation import mean_height_loss_mm
    from pti.runs.summary import hash_file

    devices = choose_devices(cfg.accelerator, cfg.devices)
    translator = open_translator(resolve(str(cfg.ckpt)))
    inputs = find_inputs(cfg, translator.data, output_dir)
    sampling = Sampling(cfg.samples, sampler_named(cfg.sampler), cfg.steps, cfg.guidance_scale, cfg.seed)
    calibration = None
    if cfg.calibration is not None:
        count = 1 if translator.module.deterministic else cfg.samples
        calibration = read_height_calibration(
            Path(str(cfg.calibration)).expanduser(), count, hash_file(translator.path)
        )
        for note in calibration.notes:
            print(f"Note: {note}.")
    found = translate_images(
        translator,
        inputs,
        output_dir,
        sampling,
        batch_size=cfg.batch_size,
        devices=devices,
        calibration=calibration,
    )
    known = any("target_height_mm" in row for row in found.rows)
    loss = mean_height_loss_mm(inputs.training, translator.pixel_mm) if known and inputs.training else None
    finish(output_dir, found, translator.path, loss)


@dataclass(frozen=True)
class Translator:
    """A checkpoint of the second stage, opened.

    Attributes:
        path: the file.
        module: in evaluation mode, on the CPU.
        data: ``data`` of its configuration.
    """

    path: Path
    module: Any
    data: dict[str, Any]

    @property
    def pixel_mm(self) -> float:
        """Edge of a pixel in mm, for files that don't say."""
        return self.data["pixel_mm"]


@dataclass(frozen=True)
class Inputs:
    """What is to be translated.

    Attributes:
        images: dente images.
        origin: where they come from, in words.
        targets: name -> file of the edente image, where it is known.
        training: (condition, target) files of the training side; empty where it isn't known.
    """

    images: "Sequence[InputImage]"
    origin: str
    targets: Mapping[str, Path] = field(default_factory=dict)
    training: Sequence[tuple[Path, Path]] = ()


def open_translator(path: Path) -> Translator:
    """Open a checkpoint that translates.

    Raises:
        CheckpointError: it can't be used.
        UsageError: it is of another kind.
    """
    from pti.runs import checkpoint

    module = checkpoint.load(path)
    if not hasattr(module, "translate"):
        raise UsageError(
            f"ckpt={path}: found a checkpoint of {type(module).__name__}, expected one of a second stage, "
            "such as best:ldm_demo or best:regression."
        )
    return Translator(path, module, checkpoint.read(path)["config"]["data"])


def find_inputs(cfg: DictConfig, trained: dict[str, Any], output_dir: Path) -> Inputs:
    """The images that the command line asks for, ``num_samples`` at most.

    Args:
        cfg: ``conf/translate.yaml``, composed.
        trained: ``data`` of the checkpoint's configuration: for what the command line leaves open.
        output_dir: left out where it lies below ``input_dir``.
    """
    from pti.data.input_images import find_images

    if cfg.input_dir is not None:
        folder = Path(str(cfg.input_dir)).expanduser().absolute()
        return Inputs(find_images(folder, skip=output_dir)[: cfg.num_samples], str(folder))
    data = {**trained, **{key: value for key, value in cfg.data.items() if value is not None}}
    inputs = inputs_of_split(data, cfg.split, str(cfg.ckpt))
    return replace(inputs, images=inputs.images[: cfg.num_samples])


def inputs_of_split(data: Mapping[str, Any], side: str, source: str) -> Inputs:
    """The conditions of one side of a data set, with their targets and the training side's pairs.

    Args:
        data: ``data`` of a checkpoint's configuration.
        side: ``train``, ``val`` or ``test``.
        source: what the configuration comes from, for messages.
    """
    from pti.inference.held_out import images_of_split, pairs_of_split

    images = images_of_split({**data, "sources": "condition"}, side, source)
    targets = {pair.name: pair.target for pair in pairs_of_split(data, side, source) if pair.target}
    training = [(pair.condition, pair.target) for pair in pairs_of_split(data, "train", source)]
    return Inputs(images, f"{side} of {Path(data['root']).absolute()}", targets, training)  # pyright: ignore[reportArgumentType]


def translate_images(
    translator: Translator,
    inputs: Inputs,
    output_dir: Path,
    sampling: "Sampling",
    *,
    batch_size: int,
    devices: "Sequence[torch.device]",
    calibration: "HeightCalibration | None" = None,
) -> "Translations":
    """Translate into a folder, going on where an earlier start with the same settings stopped.

    Below ``output_dir``: ``samples/NAME_s00.tif`` …, ``mean/NAME.tif``, ``spread/NAME.tif`` (of several
    samples), ``pictures/NAME.png``.

    Args:
        translator: what translates.
        inputs: what.
        output_dir: of this work alone; made when missing.
        sampling: how; what it leaves open is the checkpoint's own.
        batch_size: samples at a time on each device.
        devices: from `choose_devices`.
        calibration: of the heights' intervals; None = there are none.

    Raises:
        UsageError: the folder holds something else, or the module can't be sampled so.
        DataError: images can't be used; all are named.
    """
    from functools import partial

    from pti.data.input_images import survey
    from pti.inference.reconstructions import fixed_data_range
    from pti.inference.sampling import SampleTask, Translate
    from pti.inference.tables import TABLES, Translations
    from pti.inference.translator import FOLDERS, SummarizeImage, figures_of, translate_all
    from pti.runs import checkpoint
    from pti.runs.manifest import Manifest
    from pti.runs.summary import hash_config, hash_file

    module = translator.module
    if module.deterministic and sampling.samples > 1:
        print(f"{type(module).__name__} has one answer to each image: samples=1, not {sampling.samples}.")
    sampling = sampling.resolved(module)
    settings = {"command": "translate", "checkpoint": hash_file(translator.path), "images": inputs.origin}
    with Manifest(output_dir, settings | sampling.as_dict(), (*FOLDERS, *TABLES)) as manifest:
        data_range, meaning = fixed_data_range(module.normalization, survey(inputs.images).tissue)
        translate = Translate(output_dir, translator.data["image_size"], sampling)
        corrections = None if calibration is None else calibration.corrections
        finish = SummarizeImage(
            output_dir, sampling, translator.pixel_mm, data_range, inputs.targets, corrections
        )
        load = (lambda: module) if len(devices) == 1 else partial(checkpoint.load, translator.path)
        translate_all(load, translate, finish, inputs.images, manifest, batch_size, devices)
        rows = [figures_of(manifest, finish, image) for image in inputs.images]
    states = {image.name: manifest.rows[SampleTask(image, 0).file]["input"] for image in inputs.images}
    origin = None if calibration is None else calibration.origin
    return Translations(rows, sampling.as_dict(), data_range, meaning, hash_config(states)[:16], origin)


def sampler_named(name: str | None) -> Any:
    """The sampler of ``conf/model/sampler``; None for None."""
    from hydra.utils import instantiate

    return None if name is None else instantiate(OmegaConf.load(SAMPLERS / f"{name}.yaml"))


if __name__ == "__main__":
    main()
