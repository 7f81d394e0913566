"""A small data set and a checkpoint with random weights, for the commands that study latents."""

import io
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from pti.checkpoint import build
from pti.data import tif
from pti.data.inputs import find_images
from pti.data.phantom import make_phantom
from test_reconstruct import MODEL

SIZE = 32
LAYOUT = {"_target_": "pti.data.layouts.paired_folders", "_partial_": True}


@dataclass(frozen=True)
class Study:
    """Six patients with two pairs each, 64 x 64, and a VAE."""

    data: Path
    checkpoint: Path


@dataclass(frozen=True)
class Done:
    """What a command said."""

    stdout: str
    stderr: str


def make_study(folder: Path) -> Study:
    """Write both below a folder."""
    data = folder / "phantom"
    make_phantom(data, patients=6, slices=2, image_size=64, seed=1)
    torch.manual_seed(0)
    module = build(MODEL, "the test")
    images = [tif.read(image.path).pixels for image in find_images(data / "edente")]
    module.get_submodule("normalization").fit(images)  # pyright: ignore[reportCallIssue]
    return Study(
        data, save_checkpoint(folder / "vae_test" / "now" / "checkpoints" / "best.ckpt", module, MODEL, data)
    )


def save_checkpoint(path: Path, module: torch.nn.Module, model: dict, data: Path) -> Path:
    """A checkpoint as `train` writes it."""
    settings = {"root": str(data), "layout": LAYOUT, "fractions": [0.5, 0.25, 0.25], "split_seed": 3}
    settings |= {"sources": "both", "image_size": SIZE, "pixel_mm": 0.15, "val_root": None, "test_root": None}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"config": {"model": model, "data": settings}, "state_dict": module.state_dict()}, path)
    return path


def run(main: Callable[[], None], verb: str, folder: Path, *arguments: str, code: int = 0) -> Done:
    """A command in this process, which has imported torch already."""
    out, err = io.StringIO(), io.StringIO()
    before = sys.argv, Path.cwd()
    sys.argv = [f"pti {verb}", *arguments]
    os.chdir(folder)
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.argv = before[0]
        os.chdir(before[1])
    assert ended.value.code == code, err.getvalue() + out.getvalue()
    assert "Traceback" not in err.getvalue()
    return Done(out.getvalue(), err.getvalue())
