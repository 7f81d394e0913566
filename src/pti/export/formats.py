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
from pti.modules.protocols import is_autoencoder
from pti.runs.checkpoint import Checkpoint
from pti.runs.exported import CONFIG, WEIGHTS


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        write: Writes the folder of a checkpoint and its module.
        files: What it writes, relative to the folder.
        following: Folder, as the user would type it, module, and what was written -> the command that
            applies the model.
        card: Path of the model card in the folder.
        remark: Sentence on what the command needs; empty if it needs nothing.
    """

    write: Callable[[Checkpoint, nn.Module, Path], Written]
    files: tuple[str, ...]
    following: Callable[[Path, nn.Module, Written], str]
    card: str = "README.md"
    remark: str = ""


def _command(folder: Path, module: nn.Module, _: Written) -> str:
    verb = "reconstruct" if is_autoencoder(module) else "translate"
    return f"python -m pti.{verb} {setting('ckpt', folder)} input_dir=FOLDER"


def _program(folder: Path, _: nn.Module, written: Written) -> str:
    program = folder / written.artefacts["program"].name
    return f"python {shlex.quote(str(program))} INPUT.tif OUTPUT.tif"


def _bundle(folder: Path, _: nn.Module, __: Written) -> str:
    config = shlex.quote(str(folder / monai_bundle.INFERENCE))
    root = shlex.quote(str(folder))
    return f"python -m monai.bundle run --config_file {config} --bundle_root {root} --dataset_dir FOLDER"


FORMATS = {
    "safetensors": Format(
        write_safetensors,
        (WEIGHTS, CONFIG),
        _command,
        remark="Every command takes the folder in place of a checkpoint.",
    ),
    "onnx": Format(
        onnx_folder.write_onnx,
        onnx_folder.FILES,
        _program,
        remark="The program needs numpy, onnxruntime and tifffile.",
    ),
    "monai_bundle": Format(
        monai_bundle.write_monai_bundle,
        monai_bundle.FILES,
        _bundle,
        "docs/README.md",
        "Running the bundle requires pip install 'pti[monai-bundle]'.",
    ),
}
"""Name -> format."""
