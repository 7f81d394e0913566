"""Sizes of the edente bone, read off the dente image without an image in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from typing_extensions import override

from pti.data.normalization import Normalization
from pti.modules.latent_space import LatentSpace
from pti.modules.latent_space.preparation import prepare_latents
from pti.modules.own_normalization import OwnNormalization
from pti.modules.size_prediction import SizePrediction
from pti.modules.size_targets import MEASURES, BatchSizes
from pti.networks.alignment import Alignment
from pti.networks.frozen_autoencoder import FrozenAutoencoder
from pti.networks.size_inputs import SizeInputs
from pti.networks.size_network import SizeNetwork
from pti.networks.size_ridge import SizeRidge


class PixelSizes(OwnNormalization, SizePrediction):
    """Sizes from the dente image itself, end to end.

    Args:
        network: of 1 channel.
        normalization: of the dente images.
        measures: of `SizePrediction`.
        ridge_grid: cells along each edge of the image, for the ridge regression that the network corrects;
            0 = the network alone.
        alignment: of the regression's `SizeInputs`.
        prediction: of `SizePrediction`.
    """

    def __init__(
        self,
        network: SizeNetwork,
        normalization: Normalization,
        measures: Sequence[str] = MEASURES,
        ridge_grid: int = 0,
        alignment: Alignment | None = None,
        **prediction: Any,
    ) -> None:
        ridge = SizeRidge(len(measures), SizeInputs(ridge_grid, alignment)) if ridge_grid else None
        super().__init__(network, measures=measures, ridge=ridge, **prediction)
        self._normalization = normalization

    @override
    def inputs(self, raw: Tensor) -> Tensor:
        return self.normalization.normalize(raw, self.normalization.statistics(raw)).float()


class LatentSizes(SizePrediction):
    """Sizes from the dente image's latents in a trained autoencoder.

    Args:
        first_stage: the trained autoencoder; its weights stay as they are.
        network: of as many channels as the latents.
        cache_latents: ``cache`` of `LatentSpace`.
        latent_views: ``views`` of `LatentSpace`.
        prediction: of `SizePrediction`.
    """

    def __init__(
        self,
        first_stage: FrozenAutoencoder,
        network: SizeNetwork,
        *,
        cache_latents: bool = True,
        latent_views: int = 8,
        **prediction: Any,
    ) -> None:
        super().__init__(network, **prediction)
        self.latent_space = LatentSpace(
            first_stage, sample_posterior=False, cache=cache_latents, views=latent_views
        )
        self.latent_space.check_channels(network)
        self._sizes = BatchSizes(self.measures)

    @property
    @override
    def normalization(self) -> Normalization:
        return self.latent_space.normalization

    @override
    def inputs(self, raw: Tensor) -> Tensor:
        return self.latent_space.encode_condition(raw)

    @override
    def training_inputs(self, batch: dict[str, Any]) -> Tensor:
        if "condition_mean" not in batch:
            return super().training_inputs(batch)
        return self.latent_space.scaling.normalize(batch["condition_mean"])

    @override
    def sizes_of(self, batch: dict[str, Any]) -> Tensor:
        return self._sizes.measure(batch, self)

    @override
    def on_fit_start(self) -> None:
        super().on_fit_start()
        prepare_latents(self.latent_space, self.datamodule, self.trainer)
