"""``python -m pti.export``: a trained model as a folder for other machines and programs."""

from importlib.util import find_spec
from pathlib import Path

from omegaconf import DictConfig

from pti.cli.command import command
from pti.cli.preflight import require_one_of
from pti.common.errors import UsageError
from pti.runs.locate import resolve

PACKAGES = {"safetensors": (), "onnx": ("onnx", "onnxruntime", "onnxscript"), "monai_bundle": ()}
"""Format -> packages that its export needs, of the extra of the same name."""


def preflight(cfg: DictConfig) -> None:
    """Check the format and the checkpoint before anything heavy is imported."""
    require_one_of(cfg, {"format": PACKAGES})
    if cfg.ckpt is None:
        raise UsageError("ckpt is not set: expected a checkpoint's path, best, last, or best:EXPERIMENT.")
    resolve(str(cfg.ckpt))
    missing = [name for name in PACKAGES[cfg.format] if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"format={cfg.format} needs {' and '.join(missing)}: python -m pip install 'pti[{cfg.format}]'."
        )


@command("export", preflight=preflight)
def main(cfg: DictConfig, output_dir: Path) -> None:
    """Open the checkpoint, write the folder with its model card, and summarize."""
    from pti.export.formats import FORMATS
    from pti.export.model_card import write_card
    from pti.runs.checkpoint import open_checkpoint
    from pti.runs.manifest import Manifest
    from pti.runs.summary import from_here, print_summary, write_summary

    checkpoint, chosen = open_checkpoint(str(cfg.ckpt)), FORMATS[cfg.format]
    module = checkpoint.load_module()
    settings = {"command": "export", "format": cfg.format, "checkpoint": checkpoint.sha256}
    with Manifest(output_dir, settings, (*chosen.files, chosen.card)):
        written = chosen.write(checkpoint, module, output_dir)
        write_card(checkpoint, module, output_dir / chosen.card, cfg.format, written.for_card)
    artefacts = {**written.artefacts, "model card": output_dir / chosen.card}
    write_summary(
        output_dir,
        command="export",
        metrics=written.figures,
        artefacts=artefacts,
        data_fingerprint=checkpoint.content.get("data_fingerprint"),
        checkpoint=checkpoint,
    )
    following = chosen.following(from_here(output_dir), module, written)
    print_summary(f"Exported as {cfg.format}", written.figures, artefacts, following, [chosen.remark])


if __name__ == "__main__":
    main()
