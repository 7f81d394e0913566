"""Predict the sizes of edente bones for dente images on disk."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pti.common.progress import track
from pti.data import resize, tif
from pti.data.input_images import InputImage
from pti.inference.devices import batched
from pti.inference.loaded import LoadedSizePredictor


@dataclass(frozen=True)
class PredictedSizes:
    """Predicted distributions of the sizes of N bones.

    Attributes:
        quantiles: Measure -> (N, K) quantiles i / (K + 1), mm (area: mm²).
        pixel_mm: (N,) edge of a pixel of each image, mm.
    """

    quantiles: dict[str, np.ndarray]
    pixel_mm: np.ndarray


def predict_sizes(
    predictor: LoadedSizePredictor, images: Sequence[InputImage], batch_size: int, device: torch.device
) -> PredictedSizes:
    """Predict the sizes of the edente bones of dente images.

    Args:
        predictor: The model.
        images: The dente images; one or more.
        batch_size: Images at a time.
        device: The device to compute on.

    Raises:
        TifError: A file can't be used.
    """
    module, size = predictor.module, predictor.data["image_size"]
    assert isinstance(module, torch.nn.Module)
    module.to(device)
    parts, edges = [], []
    for batch in track(batched(images, batch_size), "Predicting sizes"):
        read = [tif.read(image.path) for image in batch]
        squares = np.stack([resize.pad_and_resize(image.pixels, size) for image in read])
        pixel_mm = [image.pixel_mm or predictor.pixel_mm for image in read]
        resized = [
            resize.pixel_mm_after(image.pixels.shape, size, mm)
            for image, mm in zip(read, pixel_mm, strict=True)
        ]
        raw = torch.from_numpy(squares)[:, None].to(device)
        parts.append(module.predict_sizes(raw, torch.tensor(resized, device=device)).cpu().numpy())
        edges += pixel_mm
    quantiles = np.concatenate(parts)
    columns = {name: quantiles[:, index] for index, name in enumerate(module.measures)}
    return PredictedSizes(columns, np.array(edges))
