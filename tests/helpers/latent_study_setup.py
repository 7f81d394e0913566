"""A small data set and a checkpoint with random weights, for the commands that study latents."""

from dataclasses import dataclass
from pathlib import Path

import torch

from helpers.tiny_checkpoints import VAE
from pti.data import tif
from pti.data.input_images import find_images
from pti.data.phantom import make_phantom
from pti.runs.checkpoint import build

SIZE = 32
LAYOUT = {"_target_": "pti.data.layouts.paired_folders", "_partial_": True}


@dataclass(frozen=True)
class Study:
    """Six patients with two pairs each, 64 x 64, and a VAE."""

    data: Path
    checkpoint: Path


def make_study(folder: Path) -> Study:
    """Write both below a folder."""
    data = folder / "phantom"
    make_phantom(data, patients=6, slices=2, image_size=64, seed=1)
    torch.manual_seed(0)
    module = build(VAE, "the test")
    images = [tif.read(image.path).pixels for image in find_images(data / "edente")]
    module.get_submodule("normalization").fit(images)  # pyright: ignore[reportCallIssue]
    return Study(
        data,
        save_checkpoint(
            folder / "vae_test" / "2026-01-02_03-04-05" / "checkpoints" / "best.ckpt", module, VAE, data
        ),
    )


def save_checkpoint(path: Path, module: torch.nn.Module, model: dict, data: Path) -> Path:
    """A checkpoint as `train` writes it."""
    settings = {"root": str(data), "layout": LAYOUT, "fractions": [0.5, 0.25, 0.25], "split_seed": 3}
    settings |= {"sources": "both", "image_size": SIZE, "pixel_mm": 0.15, "val_root": None, "test_root": None}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"config": {"model": model, "data": settings}, "state_dict": module.state_dict()}, path)
    return path
