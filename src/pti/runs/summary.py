"""``summary.json``: what a command did, with what, what it reached, where it wrote; the same as a table."""

import hashlib
import json
import math
import platform
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from pti.common.files import hash_file, write_text_atomically

_PACKAGES = ("pti", "torch", "lightning", "monai", "hydra-core", "numpy", "tifffile")


def write_summary(
    output_dir: Path,
    *,
    command: str,
    figures: Mapping[str, Any],
    artefacts: Mapping[str, Path | str],
    config: Mapping[str, Any] | None = None,
    data_fingerprint: str | None = None,
    checkpoint: Path | None = None,
    seed: int | None = None,
    status: str = "finished",
) -> Path:
    """Write ``output_dir/summary.json`` (beside, then renamed into place) and return its path.

    Args:
        output_dir: the command's output folder; made when missing.
        command: the verb.
        figures: what was reached; numbers that are not finite are written as null.
        artefacts: name -> what was written; paths below ``output_dir`` are stored relative to it.
        config: the resolved configuration as plain containers; only its hash is stored.
        data_fingerprint: hash of the data that was used.
        checkpoint: the checkpoint that was used; its path and SHA-256 are stored.
        seed: the seed of everything random.
        status: ``finished``, ``interrupted`` or ``failed``.
    """
    summary = {
        "command": command,
        "status": status,
        "arguments": sys.argv[1:],
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seed": seed,
        "config_hash": None if config is None else hash_config(config),
        "data_fingerprint": data_fingerprint,
        "checkpoint": None
        if checkpoint is None
        else {"path": str(checkpoint), "sha256": hash_file(checkpoint)},
        "versions": {"python": platform.python_version(), **package_versions()},
        "figures": _plain(figures),
        "artefacts": {name: _relative(path, output_dir) for name, path in artefacts.items()},
    }
    path = output_dir / "summary.json"
    write_text_atomically(path, json.dumps(summary, indent=2, allow_nan=False) + "\n")
    return path


def hash_config(config: Mapping[str, Any]) -> str:
    """SHA-256 of a plain configuration, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()


def print_summary(
    title: str,
    figures: Mapping[str, Any],
    artefacts: Mapping[str, Path | str],
    next_command: str | None = None,
) -> None:
    """Print the figures and the paths of what was written as a short table, then the command to type next."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column("what")
    table.add_column("value", overflow="fold")
    for name, value in figures.items():
        table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    if figures and artefacts:
        table.add_section()
    for name, path in artefacts.items():
        table.add_row(name, str(path))
    console.print(table)
    if next_command is not None:
        console.print(f"Next: {next_command}", style="bold", markup=False, highlight=False, soft_wrap=True)


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that decide about results."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (bool, int, str)) or value is None:
        return value
    if isinstance(value, Path):
        return str(value)
    number = float(value)
    return number if math.isfinite(number) else None


def _relative(path: Path | str, folder: Path) -> str:
    path, folder = Path(path).absolute(), folder.absolute()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
