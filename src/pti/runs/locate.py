"""Search for runs and their checkpoints by name, without heavy imports."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pti.common.errors import UsageError
from pti.common.path_settings import expand_home
from pti.runs.exported import is_exported

OUTPUTS = Path("outputs")
LAST, PREVIOUS, BEST = "last.ckpt", "last-1.ckpt", "best.ckpt"
_DATE = re.compile(r"\d{4}-\d\d-\d\d_")


def resolve(name: str, outputs_dir: Path = OUTPUTS, experiment: str | None = None) -> Path:
    """Return the absolute path of the checkpoint, or of the exported model, that ``name`` stands for.

    Args:
        name: A path; ``last`` or ``best`` of the newest run; ``last:EXPERIMENT`` or ``best:EXPERIMENT`` of
            that experiment's newest run, which is the one that wrote this checkpoint last. Jobs of sweeps
            are not searched, and for ``best`` neither are runs whose model has collapsed; name them by path.
        outputs_dir: Folder of the experiments' folders.
        experiment: Experiment of ``last`` and ``best``; None = any.

    Raises:
        UsageError: The checkpoint does not exist.
    """
    word, _, named = name.partition(":")
    if word in ("last", "best"):
        return _newest(name, f"{word}.ckpt", outputs_dir, named or experiment)
    path = Path(expand_home(name)).absolute()
    if path.is_file() or is_exported(path):
        return path
    if path.is_dir():
        paths = ", ".join(map(str, sorted(path.glob("**/*.ckpt"))[:3]))
        hint = f"give one of {paths}" if paths else "it holds none"
        raise UsageError(f"{name}: expected a checkpoint, found a folder; {hint}")
    raise UsageError(
        f"{name}: there is no such checkpoint. Expected a file, `last`, `best`, `last:EXPERIMENT` or "
        "`best:EXPERIMENT`, or the folder of an exported model."
    )


def run_dir_of(checkpoint: Path) -> Path | None:
    """Return the folder of the run that ``checkpoint`` continues (last.ckpt); None if it starts a new run."""
    if checkpoint.name in (LAST, PREVIOUS) and checkpoint.parent.name == "checkpoints":
        return checkpoint.parent.parent
    return None


def collapse_of(run_dir: Path) -> str:
    """Return how the model of a training run has collapsed; empty if it hasn't or nothing is known."""
    try:
        summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(summary.get("collapsed") or "") if isinstance(summary, dict) else ""


def fallbacks(checkpoint: Path) -> list[Path]:
    """List existing replacements of a damaged last.ckpt: the previous save, then the best checkpoint."""
    if checkpoint.name != LAST:
        return []
    return [path for name in (PREVIOUS, BEST) if (path := checkpoint.with_name(name)).is_file()]


def _newest(name: str, file: str, outputs_dir: Path, experiment: str | None) -> Path:
    folder = outputs_dir / (experiment or "*")
    if experiment is not None and not folder.is_dir():
        known = sorted({path.parents[2].name for path in outputs_dir.glob(f"*/*/checkpoints/{file}")})
        listed = f" Experiments with one: {', '.join(known)}." if known else ""
        raise UsageError(
            f"{name}: nothing was trained in {folder}, so there is no {file}; train first.{listed}"
        )
    paths = list(outputs_dir.glob(f"{experiment or '*'}/*/checkpoints/{file}"))
    paths.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    collapsed = ""
    for path in paths:
        reason = collapse_of(path.parents[1]) if file == BEST else ""
        if not reason:
            if collapsed:
                _print_once(f"Warning: {name} is {path}; a newer run has collapsed: {collapsed}")
            return path.absolute()
        collapsed = collapsed or f"{path.parents[1]}. {reason}"
    if collapsed:
        raise UsageError(
            f"{name}: every run has collapsed, so none is used; name a checkpoint by its path to "
            f"use it nevertheless. The newest one: {collapsed}"
        )
    jobs = sorted(outputs_dir.glob(f"{experiment or '*'}/sweeps/*/*/checkpoints/{file}"))
    hint = f" Give the path of a sweep's job, for example {jobs[-1]}." if jobs else ""
    raise UsageError(f"{name}: no run in {folder} has saved a {file} yet; train first.{hint}")


@cache
def _print_once(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def checkpoint_names(paths: Sequence[Path]) -> list[str]:
    """Name each checkpoint after its experiment, with run and file if needed to distinguish them."""
    names = [_parts(path) for path in paths]
    for count in (1, 2, 3):
        short = ["/".join(parts[:count]) for parts in names]
        if len(set(short)) == len(paths):
            return short
    return [str(path) for path in paths]


def _parts(path: Path) -> list[str]:
    """List the parts of a checkpoint's name, most important first: ``[ldm_demo, 2026-11-22_15-40, best]``."""
    run = path.parent.parent
    if path.parent.name != "checkpoints" or not run.name:
        return [path.stem, path.parent.name]
    if _DATE.match(run.name):  # outputs/EXPERIMENT/DATE_TIME
        return [run.parent.name, run.name, path.stem]
    return [run.name, run.parent.name, path.stem]
