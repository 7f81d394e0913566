"""Latents with a known structure, and a data set with a checkpoint for the commands that study latents."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from helpers.tiny_checkpoints import VAE, save
from pti.data import tif
from pti.data.input_images import find_images
from pti.data.phantom import make_phantom
from pti.latent_study.latents import Latents
from pti.latent_study.options import ATTRIBUTES
from pti.runs.constructors import build


@dataclass(frozen=True)
class StudyInputs:
    """Six patients with two pairs each, 64 x 64, and a VAE with random weights."""

    data: Path
    checkpoint: Path


LATENT_ATTRIBUTES = {
    "_target_": "pti.modules.attributes.LatentAttributes",
    "measures": ["height", "width_half"],
}


def make_study_inputs(folder: Path, **model: Any) -> StudyInputs:
    """Write both below a folder; ``model`` are further keys of the VAE's configuration."""
    data = folder / "phantom"
    make_phantom(data, patients=6, slices=2, image_size=64, seed=1)
    torch.manual_seed(0)
    config = VAE | model
    module = build(config, "the test")
    module.normalization.fit([tif.read(image.path).pixels for image in find_images(data / "edente")])
    checkpoint = folder / "vae_test" / "2026-01-02_03-04-05" / "checkpoints" / "best.ckpt"
    checkpoint.parent.mkdir(parents=True)
    return StudyInputs(data, save(checkpoint, module, config, data))


def make_latents(patients: int = 8, slices: int = 3, apart: float = 2.0, seed: int = 0) -> Latents:
    """Make dente and edente latents.

    A patient's latents scatter by 0.05 around the patient's own mean, the groups differ by ``apart`` in one
    channel, and one direction follows the bone height.
    """
    random = np.random.default_rng(seed)
    centres = random.normal(0, 1, (patients, 2, 4, 4))
    heights = random.uniform(15, 25, patients)
    rows = []
    for group, shift in (("dente", 0.0), ("edente", apart)):
        for patient in range(patients):
            for position in range(slices):
                mean = centres[patient] + random.normal(0, 0.05, (2, 4, 4))
                mean[1] += shift
                mean[0, 0, 0] = heights[patient] - 20
                name = f"{group}/{position:03d}_HA_2021_02_{patient:03d}"
                rows.append((name, group, f"{patient:03d}", mean, heights[patient]))
    rows.sort(key=lambda row: row[0])
    names, groups, labels, means, height_mm = (list(column) for column in zip(*rows, strict=True))
    count = len(rows)
    attributes = {name: random.normal(size=count) for name in ATTRIBUTES} | {"height_mm": np.array(height_mm)}
    channels = np.ones((count, 2), np.float32)
    return Latents(
        *(np.array(column, str) for column in (names, groups, labels, ["test"] * count)),
        mean=np.array(means, np.float32),
        std=0.5 * channels,
        kl=3 * channels,
        attributes=attributes,
    )
