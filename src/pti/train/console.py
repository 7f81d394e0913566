"""Output around training: warnings about the data, the plan, and the result."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pti.common.path_settings import as_value, setting
from pti.data.checks.quick import quick_check, require_sound
from pti.data.checks.source import DataSource
from pti.drawing.figures import draw_curves
from pti.modules.tif_data import TifDataModule
from pti.runs.arguments import typed_arguments
from pti.runs.summary import from_here, print_summary
from pti.train.autoencoder_fit import fit_line
from pti.train.callbacks.metrics_csv import read_metrics
from pti.train.record import ENVIRONMENT, SPLIT
from pti.train.resume import Start
from pti.train.verdict import verdict

_MAX_WARNINGS = 5
_WITH_PATHS = ("start", "weights", "folder")


def require_sound_data(datamodule: TifDataModule, devices: int) -> None:
    """Run the quick part of ``pti check``, and print its warnings.

    Raises:
        DataError: training on the data is impossible; the message names every bad file.
    """
    datamodule.generate_missing()
    findings = quick_check(
        DataSource(
            root=datamodule.root,
            layout=datamodule.layout,
            fractions=datamodule.fractions,
            split_seed=datamodule.split_seed,
            pixel_mm=datamodule.pixel_mm,
            extra_roots=datamodule.extra_roots,
            batch_size=datamodule.batch_size,
            devices=devices,
            sources=datamodule.sources,
            subset=datamodule.subset,
            allow_links=datamodule.allow_links,
            fold=datamodule.fold,
        )
    )
    require_sound(findings)
    warnings = [f"{finding.file}: {finding.what}. {finding.fix}" for finding in findings[:_MAX_WARNINGS]]
    if len(findings) > _MAX_WARNINGS:
        warnings.append(f"{len(findings) - _MAX_WARNINGS} more; `python -m pti.check` lists them.")
    for warning in warnings:
        print(f"Warning: {warning}", file=sys.stderr)


def print_plan(
    trainer: Trainer,
    module: LightningModule,
    datamodule: TifDataModule,
    start: Start | None,
    origin: Mapping[str, str] | None = None,
) -> None:
    """Print data, model, device and length of the training; prepares the data to count it.

    Entries with paths are below the table, each on one line, so that they can be copied. ``origin`` says
    where the first weights come from and what is frozen.
    """
    datamodule.prepare_data()
    datamodule.setup("fit")
    plan = {
        split: f"{counted(count['images'], 'image')}, {counted(count['patients'], 'patient')}"
        for split, count in datamodule.split_counts().items()
    }
    trained = sum(weight.numel() for weight in module.parameters() if weight.requires_grad)
    plan["parameters"] = f"{trained / 1e6:.2f} million" if trained >= 1e5 else f"{trained:,}"
    perceptual = getattr(module, "perceptual", None)
    plan["perceptual loss"] = "none" if perceptual is None else perceptual.name
    plan["device"] = f"{trainer.world_size} × {trainer.strategy.root_device.type}, {trainer.precision}"
    plan["length"] = _length(trainer, datamodule)
    if start is not None:
        verb = "resumes" if start.in_place else "branches from"
        done = counted(start.batches_done, "batch")
        plan["start"] = f"{verb} {from_here(start.checkpoint)} after {done}"
    plan |= origin or {}
    plan["folder"] = str(from_here(Path(trainer.default_root_dir)))
    table = Table(title="plan", title_justify="left", show_header=False)
    for name in [name for name in plan if name not in _WITH_PATHS]:
        table.add_row(name, escape(plan[name]))
    console = Console()
    console.print(table)
    for name in _WITH_PATHS:
        for line in plan.get(name, "").splitlines():
            console.print(f"  {name:<7}  {line}", markup=False, highlight=False, soft_wrap=True)


def _length(trainer: Trainer, datamodule: TifDataModule) -> str:
    epochs, steps, limit = trainer.max_epochs, trainer.max_steps, trainer.limit_train_batches
    samples = len(datamodule.train_dataloader().dataset)
    batches = math.ceil(samples / (datamodule.batch_size * trainer.world_size))
    batches = min(batches, int(limit) if isinstance(limit, int) else int(batches * limit))
    limits = [] if epochs in (None, -1) else [f"{counted(epochs, 'epoch')} of {counted(batches, 'batch')}"]
    limits += [f"at most {counted(steps, 'step')}"] if steps >= 0 else []
    return ", ".join(limits) or "no limit"


def counted(number: int, name: str) -> str:
    """Return a number with its noun: ``1 batch``, ``2 batches``."""
    plural = "" if number == 1 else "es" if name == "batch" else "s"
    return f"{number} {name}{plural}"


def last_metrics(folder: Path) -> dict[str, float]:
    """Read the last row of ``metrics.csv`` as ``last/…``, and draw the curves of all rows."""
    path = folder / "metrics.csv"
    rows = read_metrics(path) if path.is_file() else []
    if not rows:
        return {}
    draw_curves(rows, folder / "images" / "curves.png")
    return {f"last/{name}": value for name, value in rows[-1].items()}


def list_artefacts(folder: Path) -> dict[str, Path]:
    """List what a run has written, by name."""
    paths = {
        "best checkpoint": folder / "checkpoints" / "best.ckpt",
        "last checkpoint": folder / "checkpoints" / "last.ckpt",
        "metrics": folder / "metrics.csv",
        "curves": folder / "images" / "curves.png",
        "tensorboard": folder / "tensorboard",
        "config": folder / "config.yaml",
        "environment": folder / ENVIRONMENT,
        "split": folder / SPLIT,
        "profile": folder / "fit-profile.txt",
    }
    pictures = sorted((folder / "images").glob("epoch=*.png"))
    paths |= {"pictures": pictures[-1]} if pictures else {}
    return {name: path for name, path in paths.items() if path.exists()}


def print_result(
    status: str, metrics: Mapping[str, Any], artefacts: Mapping[str, Path], reconstructs: bool
) -> None:
    """Print the main metrics, the artefacts and the next command.

    Args:
        status: ``finished`` or ``interrupted``.
        metrics: epochs, steps, the best validation as ``best/…`` and the last epoch as ``last/…``.
        artefacts: what was written, by name.
        reconstructs: whether `pti.reconstruct` accepts the model.
    """
    paths = {name: from_here(path) for name, path in artefacts.items()}
    validation = "best/val/"
    images = "split=val" if any(name.startswith(validation) for name in metrics) else "input_dir=FOLDER"
    command = _next_command(status, paths, images if reconstructs else "")
    best = {name.removeprefix(validation): value for name, value in metrics.items() if validation in name}
    judged = (fit_line(best, "the validation images"), verdict(best)) if reconstructs else ()
    print_summary(f"train: {status}", _main_metrics(metrics), paths, command, filter(None, judged))


def _main_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Select the best validation, or else the last one; ``summary.json`` has the rest."""
    chosen = "best/" if any(name.startswith("best/val/") for name in metrics) else "last/"
    return {
        name: value
        for name, value in metrics.items()
        if "/" not in name
        or (name.startswith((f"{chosen}val/", f"{chosen}epoch")) and "/latent_" not in name)
    }


def _next_command(status: str, artefacts: dict[str, Path], to_reconstruct: str) -> str | None:
    """Return the command that resumes an interrupted run, or that applies a finished one.

    ``to_reconstruct`` names images for `pti.reconstruct`; it is empty if the model isn't an autoencoder.
    """
    last = artefacts.get("last checkpoint")
    best = artefacts.get("best checkpoint", last)
    if status == "interrupted":
        if last is None or {"-m", "--multirun"} & set(sys.argv):  # a sweep prints its own hint
            return None
        replaced = ("ckpt_path=", "output_dir=", "resume=", "hydra.")
        kept = [text for text in typed_arguments() if not text.startswith(replaced)]
        return shlex.join(["python", "-m", "pti.train", *kept, f"ckpt_path={as_value(last)}"])
    if best is None or status != "finished":
        return None
    if to_reconstruct:
        return f"python -m pti.reconstruct {setting('ckpt', best)} {to_reconstruct}"
    return f"python -m pti.evaluate {setting('ckpt', best)}"
