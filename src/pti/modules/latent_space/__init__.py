"""The latent space of stage 2: frozen autoencoder, scaling of latents, transfer of detail."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pti.common.errors import UsageError
from pti.common.precision import full_precision, in_float32
from pti.common.transfer import select
from pti.data import resize
from pti.data.latent_cache import POSTERIORS
from pti.data.normalization import Normalization
from pti.diffusion.samplers import Generator, gaussian_noise
from pti.networks.detail_transfer import DetailTransfer
from pti.networks.frozen_autoencoder import FrozenAutoencoder
from pti.networks.latent_scaling import LatentScaling
from pti.networks.texture_synthesis import TextureSynthesis

_SLACK = 2.0
"""Texture is added where the change is larger than this many tolerances of the detail transfer.

The gate of the transfer closes over unchanged tissue, too, where a decoded image is uncertain. Medians of
three phantoms (other anatomy; another scanner; 36 test images each) with 1, 2 and 3: amplitude in healed bone
0.97, 0.96, 0.92; 0.98, 0.93, 0.88; 0.97, 0.97, 0.95; correlation in unchanged bone 0.95, 0.96, 0.97; 0.87,
0.93, 0.95; 0.96, 0.96, 0.97.
"""


class LatentSpace(nn.Module):
    """Pairs of raw images to scaled latents, and back.

    The condition is the mean of its posterior. The target is a sample of its posterior, as the decoder was
    trained on, or, without ``sample_posterior``, its mean too: then the model does not spend capacity on the
    posterior's noise, which an autoencoder with a considerable KL puts wherever latents do not matter.

    Shift and scale are computed once over the targets of the training set (its first view), and used for
    condition and target alike.

    Args:
        first_stage: the trained autoencoder; its weights stay as they are.
        detail_transfer: restores, where a translation changes nothing, what the autoencoder lost of the
            condition; None = the autoencoder's output alone.
        sample_posterior: train on samples of the target's posterior instead of its mean.
        cache: encode the training set once, so that training never runs the encoder. Without it, every epoch
            is a new view; until the views of the cache repeat, both train on the same latents.
        views: augmented views of the training set in the cache; without augmentation there is one.
        texture: adds, to samples, the fine structure that the autoencoder loses; None = it is missing.
    """

    def __init__(
        self,
        first_stage: FrozenAutoencoder,
        detail_transfer: DetailTransfer | None = None,
        sample_posterior: bool = True,
        cache: bool = True,
        views: int = 8,
        texture: TextureSynthesis | None = None,
    ) -> None:
        super().__init__()
        self.first_stage = first_stage
        self.scaling = LatentScaling(first_stage.latent_channels)
        self.detail_transfer = detail_transfer
        self.texture = texture
        self.sample_posterior = sample_posterior
        self.cache = cache
        self.views = views

    @property
    def normalization(self) -> Normalization:
        """Normalisation of the images, the autoencoder's."""
        return self.first_stage.normalization

    def check_channels(self, network: nn.Module) -> None:
        """Raise `UsageError` where a network expects another number of latent channels."""
        own = self.first_stage.latent_channels
        channels = getattr(network, "latent_channels", own)
        if channels != own:
            raise UsageError(
                f"model.network.latent_channels={channels}: the autoencoder's latents have {own} channels "
                f"(model.first_stage.autoencoder.latent_channels). Set model.network.latent_channels={own}, "
                "or choose another autoencoder_ckpt."
            )

    def check_image_size(self, image_size: int, network: nn.Module) -> None:
        """Raise `UsageError` where autoencoder and network cannot halve an image often enough."""
        factor = self.first_stage.downsampling * getattr(network, "downsampling", 1)
        if image_size % factor:
            raise UsageError(
                f"data.image_size={image_size}: autoencoder and network reduce it to 1/{factor}, so a "
                f"multiple of {factor} is expected. Set data.image_size="
                f"{math.ceil(image_size / factor) * factor}, or fewer levels in model.network.channels."
            )

    def encode_condition(self, raw: Tensor) -> Tensor:
        """Encode raw conditions (B, 1, H, W) as scaled latents (B, C, h, w)."""
        return self.scaling.normalize(self.first_stage.encode(raw).mean)

    def encode_pair(self, batch: dict[str, Any], generator: Generator) -> tuple[Tensor, Tensor]:
        """Encode a batch as scaled latents (condition, target), each (B, C, h, w).

        Args:
            batch: raw images ``condition`` and ``target``, or cached posteriors, see `posteriors`.
            generator: of the posterior's noise.
        """
        latents = self.posteriors(batch)
        target = latents["target_mean"]
        if self.sample_posterior:
            target = target + latents["target_std"] * gaussian_noise(target, generator)
        return self.scaling.normalize(latents["condition_mean"]), self.scaling.normalize(target)

    def posteriors(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return a batch's posteriors, as `LatentDataset` serves them; encode its raw images if need be."""
        if "target_mean" in batch:
            return {name: batch[name] for name in POSTERIORS}
        return dict(zip(POSTERIORS, self.stacked_posteriors(batch).unbind(1), strict=True))

    def stacked_posteriors(self, batch: dict[str, Any]) -> Tensor:
        """Encode raw images as (B, 3, C, h, w): the condition's mean, the target's mean and its std.

        Both are normalised by the condition's statistics: those of the target are unknown when translating.
        """
        statistics = self.normalization.statistics(batch["condition"])
        condition = self.first_stage.encode(batch["condition"], statistics)
        target = self.first_stage.encode(batch["target"], statistics)
        return torch.stack([condition.mean, target.mean, target.std], dim=1)

    def decode(
        self,
        raw: Tensor,
        scaled: Tensor,
        generators: Sequence[torch.Generator] | None = None,
        *,
        condition: Tensor | None = None,
        images: Sequence[int] | None = None,
    ) -> Tensor:
        """Decode scaled latents (N, C, h, w), translations of raw conditions (B, 1, H, W), to raw images.

        Args:
            raw: the conditions, background 0.
            scaled: the latents.
            generators: of the texture, one for each translation; None = no texture, as in a mean.
            condition: result of `encode_condition`; None = encode the conditions, if that is needed.
            images: (N,), index of each translation's condition; None = one translation of each, N = B.
        """
        translation = self.first_stage.decode_normalized(self.scaling.denormalize(scaled))
        reconstruction = noise = None
        if self.detail_transfer is not None:
            latents = self.encode_condition(raw) if condition is None else condition
            decoded = self.first_stage.decode_normalized(self.scaling.denormalize(latents))
            reconstruction = select(decoded, images)
        if self.texture is not None and generators is not None:
            noise = gaussian_noise(translation, generators)
        return self.finish(select(raw, images), translation, reconstruction, noise)

    def finish(
        self, raw: Tensor, translation: Tensor, reconstruction: Tensor | None, noise: Tensor | None
    ) -> Tensor:
        """Restore detail, add texture and return to raw units; all images are (B, 1, H, W).

        Args:
            raw: the raw conditions, background 0.
            translation: decoded, normalised.
            reconstruction: of the conditions, normalised; needed by ``detail_transfer``.
            noise: of the texture, N(0, 1); None = no texture.
        """
        with in_float32(raw.device):
            return self._finish(raw, translation, reconstruction, noise)

    def _finish(
        self, raw: Tensor, translation: Tensor, reconstruction: Tensor | None, noise: Tensor | None
    ) -> Tensor:
        statistics = self.normalization.statistics(raw)
        decoded, lost = translation, torch.ones_like(translation)
        if self.detail_transfer is not None and reconstruction is not None:
            condition = self.normalization.normalize(raw, statistics)
            gate = self.detail_transfer.gate(translation, reconstruction)
            decoded = translation + gate * (condition - reconstruction)
            kept = torch.maximum(gate, self.detail_transfer.gate(translation, reconstruction, slack=_SLACK))
            lost = (1 - kept.square()).sqrt()
        own = self.normalization.denormalize(decoded, statistics)
        if self.texture is None or noise is None:
            return own
        tissue = own != 0
        texture = self.texture(translation, tissue, noise)
        textured = self.normalization.denormalize(decoded + lost * texture, statistics)
        return torch.where(tissue & (textured != 0), textured, own)

    @torch.no_grad()
    @full_precision(deterministic=True)
    def at_own_size(self, raw: np.ndarray, translations: np.ndarray) -> np.ndarray:
        """Resize translations (N, S, S) of a raw image (H, W) to (N, H, W).

        With ``detail_transfer``, also restores the detail of the condition that resizing to S lost.
        """
        enlarged = _restore_size(translations, raw.shape)
        size = translations.shape[-1]
        if self.detail_transfer is None or raw.shape == translations.shape[-2:]:
            return enlarged
        blurred = _restore_size(resize.pad_and_resize(raw, size)[None], raw.shape)
        condition, blurred, enlarged = (
            torch.from_numpy(np.ascontiguousarray(images))[:, None].to(self.scaling.shift.device)
            for images in (raw[None], blurred, enlarged)
        )
        statistics = self.normalization.statistics(condition)
        restored = self.detail_transfer(
            self.normalization.normalize(enlarged, statistics.expand(len(enlarged), -1)),
            self.normalization.normalize(condition, statistics),
            self.normalization.normalize(blurred, statistics),
            zoom=max(raw.shape) / size,
        )
        return (
            self.normalization.denormalize(restored, statistics.expand(len(restored), -1))[:, 0].cpu().numpy()
        )


def _restore_size(images: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    height, width = shape
    return resize.restore_size(images, (height, width))
