"""Interfaces of trained modules, as inference, analysis and evaluation use them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from pti.data.normalization import Normalization
from pti.diffusion.samplers import Progress, Sampler
from pti.networks.posterior import Posterior


class Autoencoder(Protocol):
    """An autoencoder of raw images: stage 1, or its frozen copy inside stage 2; see `is_autoencoder`."""

    @property
    def normalization(self) -> Normalization:
        """Normalisation of the images, fitted on the training set."""
        ...

    def encode(self, raw: Tensor) -> Posterior:
        """Encode raw images (B, 1, H, W), background exactly 0, as posteriors over latents (B, C, h, w)."""
        ...

    def decode(self, latents: Tensor, statistics: Tensor) -> Tensor:
        """Decode latents (B, C, h, w) to raw images (B, 1, H, W), background exactly 0.

        ``statistics`` (B, K) come from ``normalization.statistics`` of the raw images that set the scale.
        """
        ...


@runtime_checkable
class Translator(Protocol):
    """A trained second stage: generates edente images of dente images."""

    deterministic: bool
    """True when there is exactly one translation of an image."""

    spreads_samples: bool
    """True when ``ranks`` spread the samples of an image evenly over a predicted distribution."""

    @property
    def normalization(self) -> Normalization:
        """Normalisation of conditions and targets."""
        ...

    def resolve_sampling(
        self, sampler: Sampler | None, steps: int | None, guidance_scale: float | None
    ) -> dict[str, Any]:
        """Return ``sampler``, ``steps`` and ``guidance_scale``, with the module's own values for None.

        Raises:
            UsageError: the module does not support a given value.
        """
        ...

    def translate(
        self,
        raw: Tensor,
        generators: Sequence[torch.Generator],
        *,
        images: Sequence[int] | None = None,
        ranks: Sequence[float] | None = None,
        sampler: Sampler | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
        progress: Progress = None,
    ) -> Tensor:
        """Translate raw dente images (B, 1, H, W) to raw edente images (N, 1, H, W).

        ``images`` holds the index of the raw image of each of N samples; None = one sample of each image.
        """
        ...

    def at_own_size(self, raw: np.ndarray, translations: np.ndarray) -> np.ndarray:
        """Resize translations (N, S, S) of a raw image (H, W) to its own size, (N, H, W)."""
        ...


@runtime_checkable
class SizePredictor(Protocol):
    """A trained model that predicts sizes of the edente bone from the dente image, without an image of it."""

    measures: Sequence[str]
    """Names of the predicted sizes, of `pti.metrics.bone_agreement.Bone.lengths`."""

    @property
    def normalization(self) -> Normalization:
        """Normalisation of the dente images."""
        ...

    def predict_sizes(self, raw: Tensor, pixel_mm: Tensor) -> Tensor:
        """Predict the distribution of each size.

        Args:
            raw: raw dente images (B, 1, S, S), background exactly 0, of the size that was trained on.
            pixel_mm: (B,), edge of a pixel, mm.

        Returns:
            (B, M, K) quantiles i / (K + 1) of each of ``measures``, mm (area: mm²).
        """
        ...


def is_autoencoder(module: object) -> TypeGuard[Autoencoder]:
    """Return whether a module is an `Autoencoder`.

    A runtime-checkable protocol can't tell: since Python 3.12, isinstance doesn't look into submodules, which
    ``normalization`` is.
    """
    return all(hasattr(module, name) for name in ("normalization", "encode", "decode"))


def autoencoder_of(module: nn.Module) -> Autoencoder | None:
    """Return the autoencoder in a module: the module itself, or the frozen one of a stage-2 module."""
    candidate = getattr(getattr(module, "latent_space", None), "first_stage", module)
    return candidate if is_autoencoder(candidate) else None


def reconstruct(autoencoder: Autoencoder, raw: Tensor) -> Tensor:
    """Encode raw images (B, 1, H, W) and decode the posterior's mean to raw images (B, 1, H, W)."""
    return autoencoder.decode(autoencoder.encode(raw).mean, autoencoder.normalization.statistics(raw))
