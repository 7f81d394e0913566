"""``python -m pti.export``: a trained model as a folder for other machines and programs."""

from pathlib import Path

from omegaconf import DictConfig

from pti.cli.command import command
from pti.cli.preflight import require_one_of
from pti.common.errors import UsageError
from pti.common.path_settings import setting
from pti.runs.locate import resolve

FORMATS = ("safetensors",)


def preflight(cfg: DictConfig) -> None:
    """Check the format and the checkpoint before anything heavy is imported."""
    require_one_of(cfg, {"format": FORMATS})
    if cfg.ckpt is None:
        raise UsageError("ckpt is not set: expected a checkpoint's path, best, last, or best:EXPERIMENT.")
    resolve(str(cfg.ckpt))


@command("export", preflight=preflight)
def main(cfg: DictConfig, output_dir: Path) -> None:
    """Open the checkpoint, write the folder with its model card, and summarize."""
    from pti.export.model_card import CARD, write_card
    from pti.export.safetensors_folder import write_safetensors
    from pti.runs.checkpoint import open_checkpoint
    from pti.runs.exported import CONFIG, WEIGHTS
    from pti.runs.manifest import Manifest
    from pti.runs.summary import from_here, print_summary, write_summary

    checkpoint = open_checkpoint(str(cfg.ckpt))
    module = checkpoint.load_module()
    settings = {"command": "export", "format": cfg.format, "checkpoint": checkpoint.sha256}
    with Manifest(output_dir, settings, (WEIGHTS, CONFIG, CARD)):
        written = write_safetensors(checkpoint, module, output_dir)
        write_card(checkpoint, module, output_dir)
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
    print(f"Use it in place of a checkpoint: {setting('ckpt', from_here(output_dir))}")


if __name__ == "__main__":
    main()
