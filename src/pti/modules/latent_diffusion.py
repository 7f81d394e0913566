"""Stage 2: a diffusion model that translates the latents of dente images into those of edente images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from typing_extensions import override

from pti.common.errors import UsageError
from pti.common.randomness import sample_generator
from pti.common.transfer import select, to_device
from pti.diffusion.formulation import DiffusionPath, min_snr_weight
from pti.diffusion.guidance import drop_condition, guided
from pti.diffusion.samplers import Progress, Sampler, first_step, gaussian_noise, sample
from pti.drawing.figures import Comparison
from pti.losses import at_least_float32
from pti.modules.examples import comparison
from pti.modules.latent_space import LatentSpace
from pti.modules.latent_space.preparation import channel_weights
from pti.modules.size_targets import BatchSizes, fit_sizes
from pti.modules.translation import Translation
from pti.networks.conditional_unet import ConditionalUNet
from pti.networks.detail_transfer import DetailTransfer
from pti.networks.frozen_autoencoder import FrozenAutoencoder
from pti.networks.size_condition import SizeCondition
from pti.networks.texture_synthesis import TextureSynthesis

CHANGE_THRESHOLD = 0.5
"""Root mean square difference of condition and target, in standard deviations of the latents, above which a
position counts as changed."""

_VALIDATION_DRAWS = 4


class LatentDiffusion(Translation):
    """A conditional latent diffusion model (Rombach et al. 2022, arXiv 2112.10752) along any path.

    The network sees x_t = a(t)·x0 + b(t)·source + s(t)·noise, the time and the condition, and learns the
    path's regression target by the mean squared error over the latents' elements. x0 are the target's scaled
    latents, the source the condition's. ``conf/model/latent_diffusion.yaml`` gives the range of every number.

    Args:
        first_stage: the trained autoencoder.
        network: the denoiser.
        path: between x0 and noise, or x0 and the condition.
        sampler: of translations, from `pti.diffusion.samplers`.
        sampling_steps: of the sampler.
        guidance_scale: 1 = none; others need ``condition_dropout``.
        condition_dropout: share of the training samples whose condition is dropped.
        min_snr_gamma: of the min-SNR weights; None = all times have the same weight.
        change_loss_weight: of the latents that differ between condition and target (the tooth and the new
            ridge); 1 = the weight of all others.
        weight_channels: weight the error of each latent channel by how much the decoded image changes with
            it; False = all channels count the same.
        sample_posterior: see `LatentSpace`.
        cache_latents: ``cache`` of `LatentSpace`.
        latent_views: ``views`` of `LatentSpace`.
        detail_transfer: see `LatentSpace`.
        texture: see `LatentSpace`.
        size_condition: condition the network on sizes of the edente bone too; None = it isn't.
        translation: of `Translation`.

    Raises:
        UsageError: ``network.condition_maps`` is not the number of sizes, or ``network.change_gate`` doesn't
            go with the path.
    """

    deterministic = False
    latent_space: LatentSpace
    channel_weights: Tensor

    def __init__(
        self,
        first_stage: FrozenAutoencoder,
        network: ConditionalUNet,
        path: DiffusionPath,
        sampler: Sampler,
        *,
        sampling_steps: int = 20,
        guidance_scale: float = 1.0,
        condition_dropout: float = 0.0,
        min_snr_gamma: float | None = None,
        change_loss_weight: float = 1.0,
        weight_channels: bool = False,
        sample_posterior: bool = True,
        cache_latents: bool = True,
        latent_views: int = 8,
        detail_transfer: DetailTransfer | None = None,
        texture: TextureSynthesis | None = None,
        size_condition: SizeCondition | None = None,
        **translation: Any,
    ) -> None:
        space = LatentSpace(
            first_stage, detail_transfer, sample_posterior, cache_latents, latent_views, texture
        )
        super().__init__(network, latent_space=space, **translation)
        if not 0 <= condition_dropout < 1:
            raise UsageError(f"model.condition_dropout={condition_dropout}: expected 0 or more, and below 1.")
        if guidance_scale != 1 and not condition_dropout:
            raise UsageError(
                f"model.guidance_scale={guidance_scale}: guidance needs a network that was also trained "
                "without condition. Set model.condition_dropout=0.1."
            )
        if network.change_gate and path.prediction_type != "change":
            raise UsageError(
                "model.network.change_gate=true: the network predicts a change, but "
                f"model.path.prediction_type is {path.prediction_type}. Set model.network.change_gate=false, "
                "or take a path that predicts a change."
            )
        count = 0 if size_condition is None else len(size_condition.measures)
        if network.condition_maps != count:
            raise UsageError(
                f"model.network.condition_maps={network.condition_maps}: model.size_condition has {count} "
                f"measures. Set model.network.condition_maps={count}."
            )
        self.size_condition = size_condition
        self.spreads_samples = size_condition is not None
        self._batch_sizes = None if size_condition is None else BatchSizes(size_condition.measures)
        self.path = path
        self.sampler = sampler
        self.sampling_steps = sampling_steps
        self.guidance_scale = guidance_scale
        self.condition_dropout = condition_dropout
        self.min_snr_gamma = min_snr_gamma
        self.change_loss_weight = change_loss_weight
        self.weight_channels = weight_channels
        self.register_buffer("channel_weights", torch.ones(first_stage.latent_channels), persistent=False)

    @override
    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Take one step of algorithm 1 of Ho et al. (2020), along the path and with a condition."""
        generator = self.batch_generator()
        with self.optimizing(self.network, batch_idx) as minimize:
            condition, x0 = self.latent_space.encode_pair(batch, generator)
            t = self.path.training_times(len(x0), self.host_generator(generator))
            noise = gaussian_noise(x0, generator)
            given = self._with_true_sizes(condition, batch)
            given = drop_condition(given, self.condition_dropout, generator)
            pair = self.path.training_pair(x0, noise, t, source=condition)
            prediction = self.network(pair.x_t, pair.timesteps, given)
            loss = self._weighted_error(prediction, pair.target, x0 - condition, self._weight(t, x0)).mean()
            minimize(loss)
        return self.end_of_batch({"loss": loss}, len(x0))

    @override
    def on_before_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Add the true ``sizes`` (B, M), so that no step waits for images from the device."""
        if self._batch_sizes is None:
            return batch
        return batch | {"sizes": self._batch_sizes.measure(batch, self)}

    def _with_true_sizes(self, condition: Tensor, batch: dict[str, Any]) -> Tensor:
        """Append maps of the batch's ``sizes`` to the condition's latents (B, C, h, w)."""
        if self.size_condition is None:
            return condition
        sizes = self.size_condition.standardize(batch["sizes"])
        return torch.cat([condition, self.size_condition.maps(sizes, condition)], dim=1)

    def _weight(self, t: Tensor, latents: Tensor) -> Tensor | None:
        """Return the min-SNR weights of the times, (B,) on the latents' device; None = all the same."""
        if self.min_snr_gamma is None:
            return None
        dtype = torch.promote_types(latents.dtype, torch.float32)
        return to_device(min_snr_weight(self.path, t, self.min_snr_gamma), latents.device, dtype)

    def _weighted_error(
        self, prediction: Tensor, target: Tensor, change: Tensor, weight: Tensor | None
    ) -> Tensor:
        """Return the mean squared error of each prediction, (B,), weighted by channel, change and time.

        Args:
            prediction: (B, C, h, w).
            target: (B, C, h, w), the regression target.
            change: (B, C, h, w), x0 minus the condition's latents.
            weight: (B,), of each sample; None = all the same.
        """
        error = (at_least_float32(prediction) - at_least_float32(target)).square()
        if self.weight_channels:
            error = error * self.channel_weights[:, None, None]
        if self.change_loss_weight != 1:
            changed = change.square().mean(1, keepdim=True) > CHANGE_THRESHOLD**2
            importance = torch.where(changed, self.change_loss_weight, 1.0)
            error = error * importance / importance.mean((1, 2, 3), keepdim=True)
        error = error.mean((1, 2, 3))
        return error if weight is None else error * weight

    @override
    def validation_loss(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Return the training loss of each image, with times and noise that are the same in every epoch.

        The best constant is one number for each channel.
        """
        losses, constants, batch = [], [], batch | self.latent_space.posteriors(batch)
        for draw in range(_VALIDATION_DRAWS):
            generators = [sample_generator(self.seed, name, draw) for name in batch["name"]]
            condition, x0 = self.latent_space.encode_pair(batch, generators)
            t = torch.cat([self.path.training_times(1, generator) for generator in generators])
            noise = gaussian_noise(x0, generators)
            pair = self.path.training_pair(x0, noise, t, source=condition)
            given = self._with_true_sizes(condition, batch)
            prediction = self.inference_network(pair.x_t, pair.timesteps, given)
            constant = pair.target.mean((2, 3), keepdim=True)
            change, weight = x0 - condition, self._weight(t, x0)
            losses.append(self._weighted_error(prediction, pair.target, change, weight))
            constants.append(self._weighted_error(constant, pair.target, change, weight))
        return torch.stack(losses).mean(0), torch.stack(constants).mean(0)

    @override
    def resolve_sampling(
        self, sampler: Sampler | None, steps: int | None, guidance_scale: float | None
    ) -> dict[str, Any]:
        steps = self.sampling_steps if steps is None else steps
        scale = self.guidance_scale if guidance_scale is None else guidance_scale
        try:
            self.path.sampling_times(steps)
        except ValueError as error:
            raise UsageError(f"steps={steps}: {error}.") from None
        if scale != 1 and not self.condition_dropout:
            raise UsageError(
                f"guidance_scale={scale}: the model cannot be guided, because it was trained without "
                "condition dropout. Set guidance_scale=1, or train with model.condition_dropout=0.1."
            )
        return {"sampler": sampler or self.sampler, "steps": steps, "guidance_scale": scale}

    @override
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
        """Draw samples; see `Translation.translate`."""
        settings = self.resolve_sampling(sampler, steps, guidance_scale)
        encoded = self.latent_space.encode_condition(raw)
        condition = given = select(encoded, images)
        if self.size_condition is not None:
            normalized = self.normalization.normalize(raw, self.normalization.statistics(raw))
            sizes = self.size_condition.draw(select(normalized, images), generators, ranks)
            given = torch.cat([condition, self.size_condition.maps(sizes, condition)], dim=1)
        latents = sample(
            self.path,
            guided(self.inference_network, given, settings["guidance_scale"]),
            settings["sampler"],
            settings["steps"],
            gaussian_noise(condition, generators),
            generators,
            source=condition,
            progress=progress,
        )
        is_mean = getattr(settings["sampler"], "func", settings["sampler"]) is first_step
        return self.latent_space.decode(
            raw, latents, None if is_mean else generators, condition=encoded, images=images
        )

    @override
    def on_fit_start(self) -> None:
        """Encode the training set, and fit the prediction of sizes, where that is not done yet.

        Channels are weighted in resumed trainings, too: the weights are measured, and not in the checkpoint.
        """
        super().on_fit_start()
        if self.weight_channels:
            self._measure_channels()
        if self.size_condition is not None:
            fit_sizes(self.size_condition, self.normalization, self.datamodule)

    def _measure_channels(self) -> None:
        weights = channel_weights(self.latent_space, self.datamodule.training_set(), self.device)
        self.channel_weights.copy_(weights)
        shown = ", ".join(f"{weight:.3g}" for weight in weights.tolist())
        rank_zero_only(print)(f"Weight of the error, by latent channel: {shown}")

    @override
    @torch.no_grad()
    def example_pictures(self, batch: dict[str, Any]) -> dict[str, Comparison]:
        """Return the translations, and the network's estimates of x0 at several sampling steps."""
        pictures = super().example_pictures(batch)
        estimates: dict[str, Tensor] = {}
        shown = {round(1 + part * (self.sampling_steps - 1) / 4) for part in range(5)}

        def keep(step: int, x: Tensor, estimate: Any) -> None:
            del x
            if step in shown:
                estimates[f"step {step} of {self.sampling_steps}"] = estimate.x0

        raw = batch["condition"]
        self.translate(raw, [sample_generator(self.seed, name, 0) for name in batch["name"]], progress=keep)
        columns = {title: self.latent_space.decode(raw, latents) for title, latents in estimates.items()}
        return pictures | {"denoising": comparison(columns, batch["name"])}
