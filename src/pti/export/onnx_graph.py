"""A part of a model as a graph with named inputs and outputs, and what all such parts compute.

Images are raw (B, 1, S, S), background exactly 0: normalisation and scaling of latents are inside the graphs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from pti.data.normalization import Normalization, RangeNormalization
from pti.modules.latent_space import LatentSpace

Values = Mapping[str, Tensor]
Generators = Sequence[torch.Generator]


class Graph(nn.Module, ABC):
    """A part of a model with named inputs and outputs, tensors with the batch as first dimension.

    Args:
        model: the trained model.
        image_size: S.
    """

    name: ClassVar[str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    share: ClassVar[float] = 1.0
    """Part of the values that have to agree: less where rounding can decide on which side of a threshold a
    value lies, of the background or of the detail transfer."""

    def __init__(self, model: nn.Module, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size
        del model

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs from the inputs, both in their order."""
        return self.compute(dict(zip(self.inputs, values, strict=True)))

    @abstractmethod
    def compute(self, values: Values) -> tuple[Tensor, ...]:
        """Compute the outputs, with operations that ONNX has."""

    @abstractmethod
    def example(self, generators: Generators) -> dict[str, Tensor]:
        """Draw inputs, one for each generator."""

    def expected(self, values: Values, generators: Generators) -> tuple[Tensor, ...]:
        """Compute the outputs as `pti` does; ``generators`` are fresh ones of the same seeds."""
        del generators
        return self.compute(values)


def latent_shape(space: LatentSpace, image_size: int) -> tuple[int, int, int]:
    """Return (C, h, w) of the latents of images of ``image_size`` pixels."""
    edge = image_size // space.first_stage.downsampling
    return space.first_stage.latent_channels, edge, edge


def normalize(normalization: Normalization, raw: Tensor) -> Tensor:
    """Normalise raw images (B, 1, H, W) by their own statistics."""
    return normalization.normalize(raw, normalization.statistics(raw))


def example_images(normalization: Normalization, size: int, generators: Generators) -> Tensor:
    """Draw raw images (B, 1, S, S): cells of random tissue in a frame of background."""
    edge = max(2, size // 8)
    cells = torch.stack([torch.rand(1, edge, edge, generator=generator) for generator in generators])
    tissue = interpolate(cells, size=(size, size), mode="bilinear")
    bounds = normalization.bounds if isinstance(normalization, RangeNormalization) else (0.0, 1000.0)
    low, high = float(bounds[0]), float(bounds[1])
    raw = low + (high - low) * (0.05 + 0.9 * tissue)
    frame = size // 8
    return pad(raw[..., frame:-frame, frame:-frame], (frame,) * 4)


def encode(space: LatentSpace, raw: Tensor) -> Tensor:
    """Encode raw images as scaled latents: `LatentSpace.encode_condition` for a batch of unknown size."""
    mean, _ = space.first_stage.autoencoder.encode(normalize(space.normalization, raw))
    return space.scaling.normalize(mean)


def decode(space: LatentSpace, scaled: Tensor) -> Tensor:
    """Decode scaled latents to normalised images."""
    return space.first_stage.autoencoder.decode(space.scaling.denormalize(scaled))
