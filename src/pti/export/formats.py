"""The formats of ``python -m pti.export``."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from pti.common.path_settings import setting
from pti.export import monai_bundle, onnx_folder
from pti.export.safetensors_folder import write_safetensors
from pti.export.written import Written
from pti.runs.checkpoint import Checkpoint
from pti.runs.exported import CONFIG, WEIGHTS


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        write: Writes the folder of a checkpoint and its module.
        files: What it writes, relative to the folder.
        next_step: Folder, as the user would type it, and what was written -> a line on its use.
        card: Path of the model card in the folder.
    """

    write: Callable[[Checkpoint, nn.Module, Path], Written]
    files: tuple[str, ...]
    next_step: Callable[[Path, Written], str]
    card: str = "README.md"


def _program(folder: Path, written: Written) -> str:
    return f"python {shlex.quote(str(folder / written.artefacts['program'].name))}"


def _bundle(folder: Path) -> str:
    config = shlex.quote(str(folder / monai_bundle.INFERENCE))
    root = shlex.quote(str(folder))
    return f"python -m monai.bundle run --config_file {config} --bundle_root {root} --dataset_dir IMAGES"


FORMATS = {
    "safetensors": Format(
        write_safetensors,
        (WEIGHTS, CONFIG),
        lambda folder, _: f"Use it in place of a checkpoint: {setting('ckpt', folder)}",
    ),
    "onnx": Format(
        onnx_folder.write_onnx,
        onnx_folder.FILES,
        lambda folder, written: f"Run it: {_program(folder, written)} INPUT.tif OUTPUT.tif",
    ),
    "monai_bundle": Format(
        monai_bundle.write_monai_bundle,
        monai_bundle.FILES,
        lambda folder, _: f"Run it (requires pip install 'pti[monai-bundle]'): {_bundle(folder)}",
        "docs/README.md",
    ),
}
"""Name -> format."""
