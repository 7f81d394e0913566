"""Finds runs and their checkpoints by name, without importing anything heavy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pti.common.errors import UsageError

OUTPUTS = Path("outputs")
LAST, PREVIOUS, BEST = "last.ckpt", "last-1.ckpt", "best.ckpt"
_NAMES = {"last": LAST, "best": BEST}
_DATE = re.compile(r"\d{4}-\d\d-\d\d_")


def resolve(name: str, outputs_dir: Path = OUTPUTS, experiment: str | None = None) -> Path:
    """The checkpoint that ``name`` stands for, as an absolute path.

    Args:
        name: a path; ``last`` or ``best``: of the newest run; ``last:EXPERIMENT``, ``best:EXPERIMENT``: of
            that experiment's newest run. The newest run is the one that wrote that checkpoint last; jobs of
            sweeps don't count and are given by path.
        outputs_dir: the folder that holds the experiments' folders.
        experiment: the experiment meant by ``last`` and ``best``; None = any.

    Raises:
        UsageError: there is no such checkpoint.
    """
    word, _, chosen = name.partition(":")
    if word in _NAMES:
        return _newest(name, _NAMES[word], Path(outputs_dir), chosen or experiment)
    path = Path(name).expanduser().absolute()
    if path.is_file():
        return path
    if path.is_dir():
        raise UsageError(f"{name}: expected a checkpoint, found a folder; {_hint(path)}")
    raise UsageError(
        f"{name}: there is no such checkpoint. Expected a file, `last`, `best`, `last:EXPERIMENT` or "
        "`best:EXPERIMENT`."
    )


def run_dir_of(checkpoint: Path) -> Path | None:
    """The run's folder when training on from ``checkpoint`` goes on in it (last.ckpt); None = a new run."""
    if checkpoint.name in (LAST, PREVIOUS) and checkpoint.parent.name == "checkpoints":
        return checkpoint.parent.parent
    return None


def fallbacks(checkpoint: Path) -> list[Path]:
    """What can stand in for a damaged last.ckpt: the save before it, then the best, as far as they exist."""
    if checkpoint.name != LAST:
        return []
    return [path for path in (checkpoint.with_name(name) for name in (PREVIOUS, BEST)) if path.is_file()]


def _newest(name: str, file: str, outputs_dir: Path, experiment: str | None) -> Path:
    folder = outputs_dir / (experiment or "*")
    if experiment is not None and not folder.is_dir():
        known = sorted({path.parents[2].name for path in outputs_dir.glob(f"*/*/checkpoints/{file}")})
        listed = f" Experiments with one: {', '.join(known)}." if known else ""
        raise UsageError(
            f"{name}: nothing was trained in {folder}, so there is no {file}; train first.{listed}"
        )
    found = list(outputs_dir.glob(f"{experiment or '*'}/*/checkpoints/{file}"))
    if found:
        return max(found, key=lambda path: path.stat().st_mtime_ns).absolute()
    jobs = sorted(outputs_dir.glob(f"{experiment or '*'}/sweeps/*/*/checkpoints/{file}"))
    hint = f" Give the path of a sweep's job, for example {jobs[-1]}." if jobs else ""
    raise UsageError(f"{name}: no run in {folder} has saved a {file} yet; train first.{hint}")


def _hint(folder: Path) -> str:
    found = sorted(folder.glob("**/*.ckpt"))[:3]
    return f"give one of {', '.join(map(str, found))}" if found else "it holds none"


def checkpoint_names(paths: Sequence[Path]) -> list[str]:
    """A short name for each checkpoint: its experiment's, with run and file where these tell them apart."""
    names = [_parts(path) for path in paths]
    for count in (1, 2, 3):
        short = ["/".join(parts[:count]) for parts in names]
        if len(set(short)) == len(paths):
            return short
    return [str(path) for path in paths]


def _parts(path: Path) -> list[str]:
    """What a checkpoint may be called by, the most telling first: ``[ldm_demo, 2026-11-22_15-40, best]``."""
    run = path.parent.parent
    if path.parent.name != "checkpoints" or not run.name:
        return [path.stem, path.parent.name]
    named_by_date = _DATE.match(run.name) is not None  # as in outputs/EXPERIMENT/DATE_TIME
    return [run.parent.name, run.name, path.stem] if named_by_date else [run.name, run.parent.name, path.stem]
