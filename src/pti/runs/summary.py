"""Summary of a command's run: settings, metrics and output files, as ``summary.json`` and as a table."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pti.common.files import write_json_atomically
from pti.runs.arguments import typed_arguments
from pti.runs.exported import hash_model

if TYPE_CHECKING:
    from pti.runs.checkpoint import Checkpoint

_PACKAGES = ("pti", "torch", "lightning", "monai", "hydra-core", "numpy", "tifffile")


def write_summary(
    output_dir: Path,
    *,
    command: str,
    metrics: Mapping[str, Any],
    artefacts: Mapping[str, Path | str],
    config: Mapping[str, Any] | None = None,
    data_fingerprint: str | None = None,
    checkpoint: Checkpoint | Path | None = None,
    seed: int | None = None,
    status: str = "finished",
    warnings: Sequence[str] = (),
    collapsed: str | None = None,
    labels: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``output_dir/summary.json`` atomically and return its path.

    Args:
        output_dir: The command's output folder; created if it does not exist.
        command: The verb.
        metrics: Metrics and other results; numbers that are not finite are written as null.
        artefacts: Name -> path of each output; paths below ``output_dir`` are stored relative to it.
        config: The resolved configuration as plain containers; only its hash is stored.
        data_fingerprint: Hash of the data that was used.
        checkpoint: Checkpoint that was used, or its path; its path and SHA-256 are stored.
        seed: Seed of everything random.
        status: ``finished``, ``interrupted`` or ``failed``.
        warnings: Sentences on doubtful data, as printed.
        collapsed: How the trained model has collapsed, empty if it has not; None = not a training.
        labels: Further entries that identify the run, as ``tags`` and ``group`` of a training.
    """
    summary = {
        "command": command,
        "status": status,
        "arguments": typed_arguments(),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seed": seed,
        **(labels or {}),
        "config_hash": None if config is None else hash_config(config),
        "data_fingerprint": data_fingerprint,
        "checkpoint": None if checkpoint is None else _identity(checkpoint),
        "versions": {"python": platform.python_version(), **package_versions()},
        "figures": to_builtin(metrics),
        "warnings": list(warnings),
        **({} if collapsed is None else {"collapsed": collapsed}),
        "artefacts": {name: _relative(path, output_dir) for name, path in artefacts.items()},
    }
    path = output_dir / "summary.json"
    write_json_atomically(path, summary)
    return path


def hash_config(config: Mapping[str, Any]) -> str:
    """Hash a plain configuration with SHA-256, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()


def print_summary(
    title: str,
    metrics: Mapping[str, Any],
    artefacts: Mapping[str, Path | str],
    next_command: str | None = None,
    remarks: Iterable[str] = (),
) -> None:
    """Print the metrics as a table, the paths of the outputs, remarks, and last the command to run next.

    Paths inside the working directory are relative, and each is on one line, however long: it can be copied.
    """
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(
        title, style="italic", markup=False, highlight=False, soft_wrap=True
    )  # a table would wrap it
    table = Table(show_header=False)
    table.add_column("what")
    table.add_column("value", overflow="fold")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    console.print(table)
    width = max(map(len, artefacts), default=0)
    for name, path in artefacts.items():
        shown = path if isinstance(path, str) else from_here(path)
        console.print(f"  {name:<{width}}  {shown}", markup=False, highlight=False, soft_wrap=True)
    for remark in remarks:
        print(remark)
    if next_command is not None:
        console.print(f"Next: {next_command}", style="bold", markup=False, highlight=False, soft_wrap=True)


def from_here(path: Path) -> Path:
    """Return a path relative to the working directory, if it is inside."""
    path = path.absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that determine the results."""
    return {package: metadata.version(package) for package in _PACKAGES}


def to_builtin(value: Any) -> Any:
    """Convert nested values to what JSON can hold: numbers to int or float, non-finite ones to None."""
    if isinstance(value, Mapping):
        return {str(key): to_builtin(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_builtin(item) for item in value]
    if isinstance(value, (bool, int, str)) or value is None:
        return value
    if isinstance(value, Path):
        return str(value)
    number = float(value)
    return number if math.isfinite(number) else None


def _identity(checkpoint: Checkpoint | Path) -> dict[str, str]:
    if isinstance(checkpoint, Path):
        return {"path": str(checkpoint), "sha256": hash_model(checkpoint)}
    return {"path": str(checkpoint.path), "sha256": checkpoint.sha256}


def _relative(path: Path | str, folder: Path) -> str:
    path, folder = Path(path).absolute(), folder.absolute()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
