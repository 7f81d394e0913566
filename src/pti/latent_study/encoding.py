"""Latents of image pairs, encoded with a loaded model."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pti.common.progress import track
from pti.data.input_images import InputImage
from pti.data.layouts import Pair
from pti.inference.api import Model
from pti.latent_study.latents import Encode, Latents, concatenate


def encode_pairs(model: Model, pairs: Sequence[Pair], batch_size: int = 16) -> Latents:
    """Encode both images of pairs, and measure the bone in them.

    Args:
        model: A model with an autoencoder: one of stage 1, or of stage 2.
        pairs: Complete pairs, for example ``model.pairs("test")``; one or more.
        batch_size: Images at a time.

    Returns:
        2·N images, sorted by name: ``dente/NAME``, then ``edente/NAME``.

    Raises:
        UsageError: The model has no autoencoder.
        ValueError: There are no pairs, or an image of one is missing.
        TifError: A file can't be used.
    """
    images = [
        InputImage(f"{group}/{pair.name}", file, pair.patient)
        for group, role in (("dente", "condition"), ("edente", "target"))
        for pair in pairs
        if (file := getattr(pair, role)) is not None
    ]
    if not pairs or len(images) < 2 * len(pairs):
        raise ValueError(f"expected complete pairs, found {len(images)} images of {len(pairs)} pairs")
    _ = model.autoencoder  # raises without one
    splits = {image.name: pair.split or "" for image, pair in zip(images, [*pairs, *pairs], strict=True)}
    encode = Encode(model.image_size, model.pixel_mm, splits)
    batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    with torch.inference_mode():
        return concatenate(encode(model.module, batch) for batch in track(batches, "Encoding"))
