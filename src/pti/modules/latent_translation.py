"""What second-stage modules in latent space share: the frozen autoencoder, the scaling, the latent cache."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pti.common.errors import UsageError
from pti.data import resize
from pti.data.latent_cache import POSTERIORS, LatentCache, LatentDataset, cache_key
from pti.data.normalization import Normalization
from pti.diffusion.samplers import Generator, gaussian_noise
from pti.modules.latent_preparation import build_cache, fit_scaling
from pti.modules.optimization import LrSchedule, OptimizerFactory
from pti.modules.tif_data import TifDataModule
from pti.modules.translation import Translation
from pti.networks.detail_transfer import DetailTransfer
from pti.networks.frozen_autoencoder import FrozenAutoencoder
from pti.networks.latent_scaling import LatentScaling


class LatentTranslation(Translation):
    """A `Translation` of scaled latents of ``first_stage``, whose weights stay as they are.

    The condition is the mean of its posterior. The target is a sample of its posterior, as the decoder was
    trained on, or, without ``sample_posterior``, its mean too: then nothing is spent on learning the
    posterior's noise, which an autoencoder with a considerable KL puts wherever latents don't matter.

    Shift and scale of the latents are computed once over the targets of the training set (its first view),
    and used for condition and target alike. With ``cache_latents`` the posteriors of the training set are
    encoded once, ``latent_views`` times when there is augmentation, and training never runs the encoder;
    without, every epoch is a view of its own. Until the views repeat, both train on the same latents.

    ``detail_transfer`` puts back, where the translation changes nothing, what the autoencoder lost of the
    condition; None = the autoencoder's own output.
    """

    def __init__(
        self,
        first_stage: FrozenAutoencoder,
        network: nn.Module,
        optimizer: OptimizerFactory,
        lr_schedule: LrSchedule | None = None,
        *,
        sample_posterior: bool = True,
        cache_latents: bool = True,
        latent_views: int = 8,
        detail_transfer: DetailTransfer | None = None,
        **options: Any,
    ) -> None:
        super().__init__(network, optimizer, lr_schedule, **options)
        channels = getattr(network, "latent_channels", first_stage.latent_channels)
        if channels != first_stage.latent_channels:
            raise UsageError(
                f"model.network.latent_channels={channels}, but the autoencoder's latents have "
                f"{first_stage.latent_channels} channels (model.first_stage.autoencoder.latent_channels). "
                f"Set model.network.latent_channels={first_stage.latent_channels}, or another "
                "autoencoder_ckpt."
            )
        self.first_stage = first_stage
        self.scaling = LatentScaling(first_stage.latent_channels)
        self.sample_posterior = sample_posterior
        self.cache_latents = cache_latents
        self.latent_views = latent_views
        self.detail_transfer = detail_transfer

    @property
    def normalization(self) -> Normalization:
        """The autoencoder's."""
        return self.first_stage.normalization

    def scaled_pair(self, batch: dict[str, Any], generator: Generator) -> tuple[Tensor, Tensor]:
        """Scaled latents (condition, target), each (B, C, h, w), of a batch of images or of posteriors."""
        found = self.posteriors(batch)
        target = found["target_mean"]
        if self.sample_posterior:
            target = target + found["target_std"] * gaussian_noise(target, generator)
        return self.scaling.normalize(found["condition_mean"]), self.scaling.normalize(target)

    def posteriors(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Condition and target of a batch as `LatentDataset` serves them; a batch of it as it is."""
        if "target_mean" in batch:
            return {name: batch[name] for name in POSTERIORS}
        return dict(zip(POSTERIORS, self._encode(batch).unbind(1), strict=True))

    def decode(self, raw: Tensor, scaled: Tensor) -> Tensor:
        """Scaled latents of the translation of raw conditions (B, 1, H, W) -> raw images (B, 1, H, W)."""
        statistics = self.normalization.statistics(raw)
        latents = self.scaling.denormalize(scaled)
        if self.detail_transfer is None:
            return self.first_stage.decode(latents, statistics)
        found = self.first_stage.decode_normalized(latents)
        known = self.first_stage.decode_normalized(self.first_stage.encode(raw, statistics).mean)
        image = self.normalization.normalize(raw, statistics)
        return self.normalization.denormalize(self.detail_transfer(found, image, known), statistics)

    @torch.no_grad()
    def at_own_size(self, raw: np.ndarray, found: np.ndarray) -> np.ndarray:
        """Detail that resizing to the networks' size has lost is put back as well."""
        enlarged = super().at_own_size(raw, found)
        if self.detail_transfer is None or raw.shape == found.shape[-2:]:
            return enlarged
        known = super().at_own_size(raw, resize.pad_and_resize(raw, found.shape[-1])[None])
        condition, known, enlarged = (
            torch.from_numpy(np.ascontiguousarray(images))[:, None].to(self.device)
            for images in (raw[None], known, enlarged)
        )
        statistics = self.normalization.statistics(condition)
        image = self.detail_transfer(
            self.normalization.normalize(enlarged, statistics.expand(len(enlarged), -1)),
            self.normalization.normalize(condition, statistics),
            self.normalization.normalize(known, statistics),
            zoom=max(raw.shape) / found.shape[-1],
        )
        return self.normalization.denormalize(image, statistics.expand(len(image), -1))[:, 0].cpu().numpy()

    def scaled_condition(self, raw: Tensor) -> Tensor:
        """Scaled latents (B, C, h, w) of raw conditions (B, 1, H, W)."""
        return self.scaling.normalize(self.first_stage.encode(raw).mean)

    def setup(self, stage: str) -> None:
        """Refuses image sizes that the networks can't halve often enough."""
        super().setup(stage)
        size = self._data.image_size if stage == "fit" else None
        factor = self.first_stage.downsampling * getattr(self.network, "downsampling", 1)
        if size is not None and size % factor:
            nearest = math.ceil(size / factor) * factor
            raise UsageError(
                f"data.image_size={size}: the autoencoder and the network halve it to 1/{factor}, so a "
                f"multiple of {factor} is expected. Set data.image_size={nearest}, or fewer levels in "
                "model.network.channels."
            )

    def on_fit_start(self) -> None:
        """Fills the cache and fits the scaling, where that isn't done yet."""
        data = self._data
        images = data.training_set()
        latents = None
        if self.cache_latents:
            views = self._views(images.augmentation is not None)
            key = cache_key(images, self.first_stage.fingerprint(), data.fingerprint)
            cache = LatentCache(data.cache_dir / "latents" / key, images, views)
            side = data.image_size // self.first_stage.downsampling
            shape = (self.first_stage.latent_channels, side, side)
            build_cache(cache, self._encode_on_device, shape, self.trainer)
            latents = data.latents = LatentDataset(cache)
        if not self.scaling.fitted:
            fit_scaling(
                self.scaling, latents or images, self._encode_on_device, self.trainer, self.sample_posterior
            )
            scale = ", ".join(f"{value:.3g}" for value in self.scaling.scale.flatten())
            self.print(f"standard deviation of the latents, by channel: {scale}")

    def _views(self, augmented: bool) -> int:
        """Of the training set that are encoded: none for an epoch that won't come."""
        if not augmented:
            return 1
        epochs = self.trainer.max_epochs or -1  # -1: no end
        return self.latent_views if epochs < 0 else min(self.latent_views, epochs)

    @property
    def _data(self) -> TifDataModule:
        return self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]

    def _encode(self, batch: dict[str, Any]) -> Tensor:
        """(B, 3, C, h, w): the condition's mean, the target's mean and standard deviation.

        Both are normalised by the condition's statistics: when translating, the target's aren't known.
        """
        statistics = self.normalization.statistics(batch["condition"])
        condition = self.first_stage.encode(batch["condition"], statistics)
        target = self.first_stage.encode(batch["target"], statistics)
        return torch.stack([condition.mean, target.mean, target.std], dim=1)

    def _encode_on_device(self, batch: dict[str, Any]) -> Tensor:
        return self._encode({name: batch[name].to(self.device) for name in ("condition", "target")})
