"""Stage 1: a variational autoencoder with perceptual and adversarial losses (VAE-GAN)."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from typing_extensions import override

from pti import losses
from pti.common.errors import UsageError
from pti.common.precision import in_float32
from pti.common.randomness import keyed_generator
from pti.data.normalization import Normalization
from pti.drawing.figures import Comparison
from pti.modules import optimization
from pti.modules.attributes import LatentAttributes, adapt_attributes
from pti.modules.examples import comparison
from pti.modules.manual_optimization import ManualOptimization
from pti.modules.optimization import OptimizerFactory, last_layer_weight
from pti.modules.protocols import reconstruct
from pti.modules.vae_objective import VaeObjective
from pti.modules.validation_metrics import ReconstructionMetrics, relative_variation
from pti.networks.perceptual import PerceptualLoss
from pti.networks.posterior import Posterior

if TYPE_CHECKING:
    from monai.networks.nets.autoencoderkl import AutoencoderKL


_STRETCHES = 1
"""Last part of the key of the generator that draws stretches of training images."""


class AdversarialVAE(ManualOptimization):
    """MONAI ``AutoencoderKL``, the generator, against a ``PatchDiscriminator`` (Rombach et al. 2022, 3.1).

    Minimises reconstruction + kl_weight · KL + perceptual_weight · perceptual + Σ weight · extra loss, and
    from ``disc_start`` on + adv_weight · adversarial. Reconstruction and extra losses are means over pixels,
    the KL is a sum over an image's latents; all are means over the batch, on normalised images.

    Batches are dicts with ``image``: raw images (B, 1, H, W) float32, background exactly 0; for validation
    also ``pixel_mm`` (B,). ``normalization`` is fitted on the training images before the first step, unless
    it is fitted already. ``conf/model/adversarial_vae.yaml`` gives unit and range of every number.

    Args:
        autoencoder: the generator.
        discriminator: images (B, 1, H, W) -> hidden features, then logits; None = only for inference.
        normalization: raw images to normalised images.
        generator_optimizer: parameters -> optimizer of the autoencoder.
        discriminator_optimizer: parameters -> optimizer of the discriminator.
        adversarial: losses of the logits; None = train without a discriminator, which is then not kept.
        reconstruction: (reconstruction, image) -> loss.
        perceptual: perceptual distance; None = none.
        extra_losses: further losses by name.
        attributes: latent channels that follow measures of the bone; None = none.
        kl_weight: of the KL, in nats per image.
        perceptual_weight: of the perceptual distance.
        latent_noise: of the decoder's latents in training, standard deviations; see `Posterior.sample`.
        adv_weight: of the adversarial loss.
        adaptive_adv_weight: multiply ``adv_weight`` by the ratio of gradient norms at the last layer.
        disc_start: the epoch or batch from which on the discriminator trains and counts.
        disc_start_unit: ``epochs`` or ``batches``.
        bone_metrics: measure bone in validation.
        training: of `ManualOptimization`.
    """

    value_shown = "reconstruction"
    metric_shown = "l1"

    def __init__(
        self,
        autoencoder: AutoencoderKL,
        discriminator: nn.Module | None,
        normalization: Normalization,
        generator_optimizer: OptimizerFactory,
        discriminator_optimizer: OptimizerFactory,
        adversarial: losses.AdversarialLoss | None,
        reconstruction: Callable[[Tensor, Tensor], Tensor] = losses.l1,
        perceptual: PerceptualLoss | None = None,
        extra_losses: Mapping[str, losses.Term] | None = None,
        attributes: LatentAttributes | None = None,
        *,
        kl_weight: float = 1e-6,
        perceptual_weight: float = 1.0,
        latent_noise: float = 0.0,
        adv_weight: float = 0.5,
        adaptive_adv_weight: bool = False,
        disc_start: int = 5,
        disc_start_unit: Literal["epochs", "batches"] = "epochs",
        bone_metrics: bool = True,
        **training: Any,
    ) -> None:
        super().__init__(**training)
        if disc_start_unit not in ("epochs", "batches"):
            raise UsageError(f"model.disc_start_unit={disc_start_unit}: expected epochs or batches.")
        if latent_noise < 0:
            raise UsageError(f"model.latent_noise={latent_noise}: expected 0 or more.")
        self.autoencoder = self.in_memory_format(autoencoder)
        kept = None if adversarial is None else discriminator
        self.discriminator = self.in_memory_format(kept or nn.Identity())
        self.normalization = normalization
        self.perceptual = perceptual
        self.attributes = attributes
        if attributes is not None:
            attributes.require_channels(autoencoder.latent_channels)
        self.ema = self.average_of(self.autoencoder)
        self.trained_networks, self.optimizer_factories = (self.autoencoder,), (generator_optimizer,)
        if adversarial is not None:
            self.trained_networks += (self.discriminator,)
            self.optimizer_factories += (discriminator_optimizer,)
        self.adversarial = adversarial
        self.objective = VaeObjective(
            reconstruction,
            adversarial,
            perceptual,
            kl_weight,
            perceptual_weight,
            self.adversarial_weight,
            extra_losses or {},
        )
        self.latent_noise = latent_noise
        self.adv_weight = adv_weight
        self.adaptive_adv_weight = adaptive_adv_weight
        self.disc_start = disc_start
        self.disc_start_unit = disc_start_unit
        self.metrics = self.reconstruction_metrics = ReconstructionMetrics(
            autoencoder.latent_channels, perceptual, bone_metrics
        )

    @property
    def inference_autoencoder(self) -> AutoencoderKL:
        """The averaged autoencoder where there is an average; otherwise the trained one."""
        return self.autoencoder if self.ema is None else cast("AutoencoderKL", self.ema.model)

    @property
    def discriminator_trains(self) -> bool:
        """True once the adversarial game has started, if there is one."""
        if self.adversarial is None:
            return False
        progress = self.current_epoch if self.disc_start_unit == "epochs" else self.batches_seen
        return progress >= self.disc_start

    def encode(self, raw: Tensor) -> Posterior:
        """Encode raw images (B, 1, H, W), background exactly 0, as posteriors over latents (B, C, h, w).

        In float32, as stage 2 does, whatever the precision of the training.
        """
        with in_float32(raw.device):
            return _encode(self.inference_autoencoder, self._normalize(raw))

    def decode(self, latents: Tensor, statistics: Tensor) -> Tensor:
        """Decode latents (B, C, h, w) to raw images (B, 1, H, W), background exactly 0.

        ``statistics`` (B, K) come from ``normalization.statistics`` of the raw images that set the scale.
        """
        with in_float32(latents.device):
            return self.normalization.denormalize(_decode(self.inference_autoencoder, latents), statistics)

    @override
    def forward(self, raw: Tensor) -> Tensor:
        """Reconstruct raw images (B, 1, H, W), background exactly 0, from the posterior's mean."""
        return reconstruct(self, raw)

    @override
    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Train the generator on one batch, then the discriminator."""
        image = self._normalize(batch["image"])
        adversarial = self.adversarial if self.discriminator_trains else None

        with self.optimizing(self.autoencoder, batch_idx) as minimize:
            posterior = _encode(self.autoencoder, image)
            latents = posterior.sample(self.batch_generator(), self.latent_noise)
            reconstruction = _decode(self.autoencoder, latents)
            discriminator = None if adversarial is None else self.discriminator
            loss, parts = self.objective(image, reconstruction, posterior, discriminator)
            if self.attributes is not None:
                added, own_parts = self._attribute_losses(self.attributes, batch, posterior.mean, latents)
                loss, parts = loss + added, parts | own_parts
            minimize(loss)
        parts["variation"] = relative_variation(image, reconstruction)

        if adversarial is not None:
            with self.optimizing(self.discriminator, batch_idx) as minimize:
                # One forward pass for both: under DDP, two before one backward pass are a risk.
                logits = self.discriminator(torch.cat([image, reconstruction.detach()]))[-1]
                real, fake = logits.chunk(2)
                parts["discriminator"] = adversarial.discriminator(real, fake)
                minimize(parts["discriminator"])
            parts["logits_real"], parts["logits_fake"] = real.float().mean(), fake.float().mean()

        return self.end_of_batch({"loss": loss, **parts}, len(image))

    def _attribute_losses(
        self, attributes: LatentAttributes, batch: dict[str, Any], mean: Tensor, latents: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of order and steering loss, and both unweighted; see `LatentAttributes`."""
        statistics = self.normalization.statistics(batch["image"])
        stretched = self._normalize(batch["stretched"], statistics)
        read = attributes.read(torch.cat([mean, _encode(self.autoencoder, stretched).mean]))
        parts = {"order": losses.attribute_order(read, batch["sizes"], attributes.delta)}
        loss = attributes.weight * parts["order"]
        if attributes.steering_weight:
            steered = _decode(self.autoencoder, attributes.move(latents, batch["changes"] / attributes.scale))
            parts["steering"] = self.objective.reconstruction(steered, stretched)
            loss = loss + attributes.steering_weight * parts["steering"]
        return loss, parts

    def adversarial_weight(self, others: Tensor, adversarial: Tensor) -> Tensor | float:
        """Return the weight of the adversarial loss beside the sum of all other losses."""
        if not self.adaptive_adv_weight:
            return self.adv_weight
        scaler = optimization.grad_scaler(self)
        scale = 1.0 if scaler is None else scaler.get_scale()
        last_layer = last_layer_weight(self.autoencoder.decoder)
        return self.adv_weight * optimization.adaptive_weight(others, adversarial, last_layer, scale)

    @override
    @torch.no_grad()
    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Measure reconstructions from the posterior's mean, with averaged weights where there are any."""
        raw, image = batch["image"], self._normalize(batch["image"])
        posterior = _encode(self.inference_autoencoder, image)
        reconstruction = _decode(self.inference_autoencoder, posterior.mean)
        self.metrics.add_images(image, reconstruction)
        decode = functools.partial(_decode, self.inference_autoencoder)
        self.reconstruction_metrics.add_latents(posterior, image, decode)
        statistics = self.normalization.statistics(raw)
        raw_reconstruction = self.normalization.denormalize(reconstruction, statistics)
        self.metrics.add_raw(raw, raw_reconstruction, batch["pixel_mm"])

    @override
    def example_pictures(self, batch: dict[str, Any]) -> dict[str, Comparison]:
        columns = {"original": batch["image"], "reconstruction": self(batch["image"])}
        return {"examples": comparison(columns, batch["name"], difference=("original", "reconstruction"))}

    @override
    def on_before_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Add what the losses of attributes compare, so that no step waits for images from the device."""
        if self.attributes is None or not self.trainer.training:
            return batch
        generator = keyed_generator("cpu", self.seed, self.batches_seen, self.global_rank, _STRETCHES)
        return batch | self.attributes.training_inputs(batch, self.datamodule.sources, generator)

    @override
    def on_fit_start(self) -> None:
        """Measure the spread of the attributes' measures, unless it is known."""
        if self.attributes is not None and not self.attributes.fitted:
            images = replace(self.datamodule.training_set(), augmentation=None)
            batches = (images[0, index] for index in range(len(images)))
            self.attributes.fit(batches, self.datamodule.sources)

    @override
    def setup(self, stage: str) -> None:
        """Fit the normalisation unless it is fitted; compile."""
        if stage == "fit":
            if not self.normalization.fitted:
                self.normalization.fit(self.datamodule.training_images())
            if self.adaptive_adv_weight and not last_layer_weight(self.autoencoder.decoder).requires_grad:
                raise UsageError(
                    "model.adaptive_adv_weight=true needs gradients at the decoder's last layer, which "
                    "freeze excludes. Set model.adaptive_adv_weight=false, or freeze less of the decoder."
                )
            # The averaged copy is in evaluation mode on purpose.
            warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode")
            rank_zero_info("perceptual loss: %s", "none" if self.perceptual is None else self.perceptual.name)
        networks = [self.autoencoder.encoder, self.autoencoder.decoder, self.discriminator]
        self.compile_in_place(networks, retains_graph=self.adaptive_adv_weight)

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["perceptual"] = "none" if self.perceptual is None else self.perceptual.name

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        adapt_attributes(checkpoint["state_dict"], self.attributes)

    def _normalize(self, raw: Tensor, statistics: Tensor | None = None) -> Tensor:
        """Normalise raw images, by their own statistics unless others are given."""
        statistics = self.normalization.statistics(raw) if statistics is None else statistics
        image = self.normalization.normalize(raw, statistics)
        return image.to(memory_format=self.memory_format)


def _encode(autoencoder: AutoencoderKL, image: Tensor) -> Posterior:
    mean, std = autoencoder.encode(image)
    return Posterior(losses.at_least_float32(mean), losses.at_least_float32(std))


def _decode(autoencoder: AutoencoderKL, latents: Tensor) -> Tensor:
    return losses.at_least_float32(autoencoder.decode(latents))
