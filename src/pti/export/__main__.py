"""``python -m pti.export``: a trained model as a folder for other machines and programs."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from pti.cli.command import command
from pti.cli.preflight import POSITIVE, require_in_range, require_one_of
from pti.common.errors import UsageError
from pti.common.path_settings import setting
from pti.runs.locate import resolve

if TYPE_CHECKING:
    from torch import nn

    from pti.export.written import Written
    from pti.runs.checkpoint import Checkpoint

FORMATS = ("safetensors", "onnx")

_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_ONNX_KEYS = ("sampler", "steps", "guidance_scale")


def preflight(cfg: DictConfig) -> None:
    """Check the checkpoint, the format and its packages before anything heavy is imported."""
    require_one_of(cfg, {"format": FORMATS})
    if cfg.ckpt is None:
        raise UsageError("ckpt is not set: expected a checkpoint's path, best, last, or best:EXPERIMENT.")
    resolve(str(cfg.ckpt))
    require_in_range(cfg, {"steps": POSITIVE}, whole=True)
    given = [key for key in _ONNX_KEYS if cfg[key] is not None]
    if given and cfg.format != "onnx":
        raise UsageError(
            f"{', '.join(given)}: only format=onnx fixes the sampling. Omit {' and '.join(given)}: the "
            "commands that take the folder have these keys."
        )
    missing = [name for name in _ONNX_PACKAGES if find_spec(name) is None]
    if missing and cfg.format == "onnx":
        raise UsageError(f'format=onnx needs {", ".join(missing)}: pip install "pti[onnx]"')


@command("export", preflight=preflight)
def main(cfg: DictConfig, output_dir: Path) -> None:
    """Open the checkpoint, write the folder with its model card, and summarize."""
    from pti.export import onnx_folder
    from pti.export.model_card import CARD, write_card
    from pti.runs.checkpoint import open_checkpoint
    from pti.runs.exported import CONFIG, WEIGHTS
    from pti.runs.manifest import Manifest
    from pti.runs.summary import print_summary, write_summary

    checkpoint = open_checkpoint(str(cfg.ckpt))
    module = checkpoint.load_module()
    settings = {"command": "export", "format": cfg.format, "checkpoint": checkpoint.sha256}
    settings |= {key: None if cfg[key] is None else str(cfg[key]) for key in _ONNX_KEYS}
    with Manifest(output_dir, settings, (WEIGHTS, CONFIG, CARD, *onnx_folder.FILES)):
        written = write_model(cfg, checkpoint, module, output_dir)
        write_card(checkpoint, module, output_dir, cfg.format)
    artefacts = {**written.artefacts, "model card": output_dir / CARD}
    write_summary(
        output_dir,
        command="export",
        metrics=written.figures,
        artefacts=artefacts,
        data_fingerprint=checkpoint.content.get("data_fingerprint"),
        checkpoint=checkpoint,
    )
    print_summary(f"Exported as {cfg.format}", written.figures, artefacts)
    if cfg.format == "safetensors":
        print(f"Use it in place of a checkpoint: {setting('ckpt', output_dir)}")


def write_model(
    cfg: DictConfig, checkpoint: "Checkpoint", module: "nn.Module", output_dir: Path
) -> "Written":
    """Write the model in the chosen format."""
    from hydra.utils import instantiate

    from pti.export.onnx_folder import write_onnx
    from pti.export.safetensors_folder import write_safetensors

    if cfg.format == "safetensors":
        return write_safetensors(checkpoint, module, output_dir)
    sampler = instantiate(cfg.sampler)
    return write_onnx(checkpoint, module, output_dir, sampler, cfg.steps, cfg.guidance_scale)


if __name__ == "__main__":
    main()
