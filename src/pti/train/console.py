"""What ``train`` prints and writes around the training itself."""

from __future__ import annotations

import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning import LightningModule, Trainer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from pti.data.checks.quick import quick_check, require_sound
from pti.data.checks.source import DataSource
from pti.drawing.figures import draw_curves
from pti.modules.tif_data import TifDataModule
from pti.runs.summary import print_summary, write_summary
from pti.train.callbacks.metrics_csv import read_metrics
from pti.train.resume import Start

if TYPE_CHECKING:
    from pti.train.run import Training

_WARNINGS = 5


def require_sound_data(datamodule: TifDataModule, devices: int) -> None:
    """The cheap part of ``pti check``; warnings are printed.

    Raises:
        DataError: the data can't be trained on; names every bad file.
    """
    datamodule.generate_missing()
    findings = quick_check(
        DataSource(
            root=datamodule.root,
            layout=datamodule.layout,
            fractions=datamodule.fractions,
            split_seed=datamodule.split_seed,
            pixel_mm=datamodule.pixel_mm,
            val_root=datamodule.extra_roots.get("val"),
            test_root=datamodule.extra_roots.get("test"),
            batch_size=datamodule.batch_size * devices,
        )
    )
    require_sound(findings)
    for finding in findings[:_WARNINGS]:
        print(f"Warning: {finding.file}: {finding.what}. {finding.fix}", file=sys.stderr)
    if len(findings) > _WARNINGS:
        print(
            f"Warning: and {len(findings) - _WARNINGS} more; `python -m pti.check` lists them.",
            file=sys.stderr,
        )


def print_config(config: dict[str, Any]) -> None:
    """The resolved configuration as a tree."""
    tree = Tree("configuration")
    _grow(tree, config)
    Console(soft_wrap=True).print(tree)


def print_plan(
    trainer: Trainer, module: LightningModule, datamodule: TifDataModule, start: Start | None
) -> None:
    """What is going to be trained, on what, for how long."""
    table = Table(title="plan", title_justify="left", show_header=False)
    for name, value in _plan(trainer, module, datamodule, start).items():
        table.add_row(name, value)
    Console().print(table)


def _plan(
    trainer: Trainer, module: LightningModule, datamodule: TifDataModule, start: Start | None
) -> dict[str, str]:
    datamodule.prepare_data()
    datamodule.setup("fit")
    plan = {
        side: f"{count['images']} images, {count['patients']} patients"
        for side, count in datamodule.split_counts().items()
    }
    trained = sum(weight.numel() for weight in module.parameters() if weight.requires_grad)
    plan["parameters"] = f"{trained / 1e6:.2f} million"
    perceptual = getattr(module, "perceptual", None)
    plan["perceptual loss"] = "none" if perceptual is None else perceptual.name
    device = trainer.strategy.root_device
    plan["device"] = f"{trainer.world_size} × {device.type}, {trainer.precision}"
    epochs, steps = trainer.max_epochs, trainer.max_steps
    batches = _batches_an_epoch(trainer, datamodule)
    plan["length"] = ", ".join(
        [f"{epochs} epochs of {batches} batches"] * (epochs not in (None, -1))
        + [f"at most {steps} steps"] * (steps >= 0)
    )
    if start is not None:
        how = "goes on with" if start.in_place else "branches from"
        plan["start"] = f"{how} {start.checkpoint}, after {start.batches_done} batches"
    plan["folder"] = trainer.default_root_dir
    return plan


def _batches_an_epoch(trainer: Trainer, datamodule: TifDataModule) -> int:
    samples, limit = len(datamodule.train_dataloader().dataset), trainer.limit_train_batches
    batches = math.ceil(samples / (datamodule.batch_size * trainer.world_size))
    return min(batches, int(limit) if isinstance(limit, int) else int(batches * limit))


def conclude(training: Training, status: str, seconds: float) -> None:
    """Write ``summary.json``; print the figures and the command to type next."""
    folder = training.output_dir
    if not folder.is_dir():
        return
    figures, artefacts = _figures(training), _artefacts(folder)
    figures["seconds"] = round(seconds, 1)
    write_summary(
        folder,
        command="train",
        status=status,
        figures=figures,
        artefacts=artefacts,
        config=training.plain,
        data_fingerprint=getattr(training.datamodule, "fingerprint", None) if training.trainer else None,
        checkpoint=training.start.checkpoint if training.start and not training.start.in_place else None,
        seed=training.plain.get("seed"),
    )
    if status != "failed":
        named = {name: _from_here(path) for name, path in artefacts.items()}
        print_summary(f"train: {status}", _worth_showing(figures), named, _next_command(training, status))


def _figures(training: Training) -> dict[str, Any]:
    """Flat: ``epochs``, ``steps``, ``best/epoch``, ``best/val/…``, ``last/epoch``, ``last/…``."""
    figures: dict[str, Any] = {}
    if training.trainer is not None:
        figures |= {"epochs": training.trainer.current_epoch, "steps": training.trainer.global_step}
    if training.checkpointer is not None:
        figures |= {
            f"best/{name}": value for name, value in training.checkpointer.best.items() if name != "monitor"
        }
    metrics = training.output_dir / "metrics.csv"
    rows = read_metrics(metrics) if metrics.is_file() else []
    if rows:
        figures |= {f"last/{name}": value for name, value in rows[-1].items()}
        draw_curves(rows, training.output_dir / "images" / "curves.png")
    return figures


def _worth_showing(figures: dict[str, Any]) -> dict[str, Any]:
    """The best validation, or else the last; the rest stands in ``summary.json``."""
    side = "best/" if any(name.startswith("best/val/") for name in figures) else "last/"
    return {
        name: value
        for name, value in figures.items()
        if "/" not in name or (name.startswith((f"{side}val/", f"{side}epoch")) and "/latent_" not in name)
    }


def _artefacts(folder: Path) -> dict[str, Path]:
    paths = {
        "best checkpoint": folder / "checkpoints" / "best.ckpt",
        "last checkpoint": folder / "checkpoints" / "last.ckpt",
        "metrics": folder / "metrics.csv",
        "curves": folder / "images" / "curves.png",
        "tensorboard": folder / "tensorboard",
        "config": folder / "config.yaml",
    }
    pictures = sorted((folder / "images").glob("epoch=*.png"))
    if pictures:
        paths["pictures"] = pictures[-1]
    return {name: path for name, path in paths.items() if path.exists()}


def _next_command(training: Training, status: str) -> str | None:
    found = _artefacts(training.output_dir)
    sweep = {"-m", "--multirun"} & set(sys.argv)  # says itself how it goes on
    if status == "interrupted" and "last checkpoint" in found and not sweep:
        given = [
            text for text in sys.argv[1:] if not text.startswith(("ckpt_path=", "output_dir=", "hydra."))
        ]
        return shlex.join(
            ["python", "-m", "pti.train", *given, f"ckpt_path={_from_here(found['last checkpoint'])}"]
        )
    best = found.get("best checkpoint") or found.get("last checkpoint")
    if status == "interrupted" or best is None or not hasattr(training.module, "reconstruct"):
        return None
    return f"python -m pti.reconstruct ckpt={shlex.quote(str(_from_here(best)))} input_dir=FOLDER"


def _from_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _grow(tree: Tree, value: Any) -> None:
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        inner = list(item.values()) if isinstance(item, dict) else item if isinstance(item, list) else []
        if (isinstance(item, dict) and item) or any(isinstance(each, (dict, list)) for each in inner):
            _grow(tree.add(f"[bold]{key}"), item)
        else:
            tree.add(escape(f"{key}: {item}"))
