"""The latents for TensorBoard's embedding projector."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from pti.data import resize, tif
from pti.data.input_images import InputImage
from pti.drawing.panels import grey, tissue_window
from pti.latent_study.latents import Latents

_SPRITE = 8192
"""Side of the picture that holds all thumbnails, pixels: as large as browsers' graphics take everywhere."""

_LARGEST = 64


def write_projector(folder: Path, latents: Latents, images: Sequence[InputImage], scores: np.ndarray) -> None:
    """Write what ``tensorboard --logdir FOLDER`` shows under "Projector", with names, attributes, thumbnails.

    Args:
        folder: a folder of its own; an earlier projector in it is replaced.
        latents: what is known of the images.
        images: in the latents' order.
        scores: (N, K) principal components of the latents, since it takes them as text.
    """
    columns = {
        "name": latents.name,
        "group": latents.group,
        "patient": latents.patient,
        "split": latents.split,
        **{name: np.round(values, 4) for name, values in latents.attributes.items()},
    }
    rows = [[str(cell) for cell in row] for row in zip(*columns.values(), strict=True)]
    side = min(_LARGEST, _SPRITE // int(np.ceil(np.sqrt(len(images)))))
    pictures = np.stack([_thumbnail(tif.read(image.path).pixels, side) for image in images])
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    (folder / "projector_config.pbtxt").unlink(missing_ok=True)  # add_embedding appends to it
    with SummaryWriter(str(folder)) as writer:
        writer.add_embedding(
            scores,
            metadata=rows,
            metadata_header=list(columns),
            label_img=torch.from_numpy(pictures),
            tag="latents",
        )


def _thumbnail(raw: np.ndarray, side: int) -> np.ndarray:
    """(3, side, side) float32 in [0, 1]."""
    shown = grey(resize.pad_and_resize(raw, side), tissue_window(raw)).astype(np.float32) / 255
    return shown.transpose(2, 0, 1)
