"""Export of the latents for TensorBoard's embedding projector."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from pti.common.files import to_valid_text
from pti.data import resize, tif
from pti.data.input_images import InputImage
from pti.drawing.panels import grey, tissue_window
from pti.latent_study.latents import Latents
from pti.latent_study.options import LABELS

_MAX_SPRITE_SIZE = 8192
"""Side length of the image of all thumbnails, pixels: the largest texture that all browsers support."""

_MAX_THUMBNAIL_SIZE = 64


def write_projector(folder: Path, latents: Latents, images: Sequence[InputImage], scores: np.ndarray) -> None:
    """Write what ``tensorboard --logdir FOLDER`` shows under "Projector": points, metadata and thumbnails.

    Args:
        folder: Folder for these files only; an earlier projector in it is replaced.
        latents: Names, labels and attributes of the images.
        images: Images in the order of the latents.
        scores: (N, K) principal components of the latents, which keep the exported text files small.
    """
    columns = {
        **{name: getattr(latents, name) for name in ("name", *LABELS)},
        **{name: np.round(values, 4) for name, values in latents.attributes.items()},
    }
    metadata = [[to_valid_text(str(cell)) for cell in row] for row in zip(*columns.values(), strict=True)]
    size = min(_MAX_THUMBNAIL_SIZE, _MAX_SPRITE_SIZE // int(np.ceil(np.sqrt(len(images)))))
    thumbnails = np.stack([_thumbnail(tif.read(image.path).pixels, size) for image in images])
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    (folder / "projector_config.pbtxt").unlink(missing_ok=True)  # add_embedding appends to it
    with SummaryWriter(str(folder)) as writer:
        writer.add_embedding(
            scores,
            metadata=metadata,
            metadata_header=list(columns),
            label_img=torch.from_numpy(thumbnails),
            tag="latents",
        )


def _thumbnail(raw: np.ndarray, size: int) -> np.ndarray:
    """Return a raw image as (3, size, size) float32 in [0, 1]."""
    shown = grey(resize.pad_and_resize(raw, size), tissue_window(raw)).astype(np.float32) / 255
    return shown.transpose(2, 0, 1)
