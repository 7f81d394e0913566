"""Stage 1: a variational autoencoder with perceptual and adversarial losses (VAE-GAN)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.optim import Optimizer

from pti import losses
from pti.common.errors import UsageError
from pti.common.randomness import keyed_generator
from pti.data.normalization import Normalization
from pti.modules import optimization
from pti.modules.manual_optimization import ManualTraining
from pti.modules.optimization import LrSchedule, OptimizerFactory
from pti.modules.vae_objective import VaeObjective
from pti.modules.validation_metrics import ReconstructionReport
from pti.networks.ema import Ema
from pti.networks.perceptual import PerceptualLoss
from pti.networks.posterior import Posterior

if TYPE_CHECKING:
    from monai.networks.nets.autoencoderkl import AutoencoderKL


class AdversarialVAE(ManualTraining):
    """MONAI ``AutoencoderKL``, the generator, against a ``PatchDiscriminator`` (Rombach et al. 2022, 3.1).

    Minimises reconstruction + kl_weight · KL + perceptual_weight · perceptual + Σ weight · term, and from
    ``disc_start`` on + adv_weight · adversarial. Reconstruction and extra losses are means over pixels, KL is summed
    over an image's latents; all are means over the batch, on normalised images.

    Batches are dicts with ``image``: raw images (B, 1, H, W) float32, background exactly 0; for validation
    also ``pixel_mm`` (B,). ``normalization`` is fitted on the training images before the first step, unless
    it is already. Every number's unit and range stands in ``conf/model/adversarial_vae.yaml``.
    """

    def __init__(
        self,
        autoencoder: AutoencoderKL,
        discriminator: nn.Module,
        normalization: Normalization,
        generator_optimizer: OptimizerFactory,
        discriminator_optimizer: OptimizerFactory,
        adversarial: losses.AdversarialLoss,
        reconstruction: Callable[[Tensor, Tensor], Tensor] = losses.l1,
        perceptual: PerceptualLoss | None = None,
        extra_losses: Mapping[str, losses.Term] | None = None,
        lr_schedule: LrSchedule | None = None,
        *,
        kl_weight: float = 1e-6,
        perceptual_weight: float = 1.0,
        adv_weight: float = 0.5,
        adaptive_adv_weight: bool = False,
        disc_start: int = 5,
        disc_start_unit: Literal["epochs", "batches"] = "epochs",
        gradient_clip_val: float | None = None,
        accumulate_grad_batches: int = 1,
        scale_lr_by_devices: bool = False,
        ema_decay: float | None = None,
        ema_update_every: int = 1,
        channels_last: bool = False,
        compile: bool = False,
        bone_metrics: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(lr_schedule, gradient_clip_val, accumulate_grad_batches, scale_lr_by_devices)
        if disc_start_unit not in ("epochs", "batches"):
            raise UsageError(f"model.disc_start_unit: found {disc_start_unit}, expected epochs or batches")
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.autoencoder = autoencoder.to(memory_format=self.memory_format)  # pyright: ignore[reportCallIssue]
        self.discriminator = discriminator.to(memory_format=self.memory_format)  # pyright: ignore[reportCallIssue]
        self.normalization = normalization
        self.perceptual = perceptual
        self.ema = Ema(self.autoencoder, ema_decay, ema_update_every) if ema_decay else None
        self.optimizer_factories = (generator_optimizer, discriminator_optimizer)
        self.adversarial = adversarial
        self.objective = VaeObjective(
            reconstruction,
            adversarial,
            perceptual,
            kl_weight,
            perceptual_weight,
            self._balance,
            extra_losses or {},
        )
        self.adv_weight = adv_weight
        self.adaptive_adv_weight = adaptive_adv_weight
        self.disc_start = disc_start
        self.disc_start_unit = disc_start_unit
        self.compile_networks = compile
        self.seed = seed
        self.report = ReconstructionReport(autoencoder.latent_channels, perceptual, bone_metrics)

    @property
    def inference_autoencoder(self) -> AutoencoderKL:
        """The network to use: the averaged one where there is an average."""
        return self.autoencoder if self.ema is None else cast("AutoencoderKL", self.ema.model)

    def encode(self, raw: Tensor) -> Posterior:
        """Raw images (B, 1, H, W), background exactly 0 -> posterior over latents (B, C, h, w)."""
        return self._encode(self.inference_autoencoder, self._normalize(raw))

    def decode(self, latents: Tensor, statistics: Tensor) -> Tensor:
        """Latents (B, C, h, w) -> raw images (B, 1, H, W), background exactly 0.

        ``statistics`` (B, K) is what ``normalization.statistics`` gave for the raw images that set the scale.
        """
        return self.normalization.denormalize(self._decode(self.inference_autoencoder, latents), statistics)

    def reconstruct(self, raw: Tensor) -> Tensor:
        """Raw images (B, 1, H, W) -> the same by way of the posterior's mean, background exactly 0."""
        return self.decode(self.encode(raw).mean, self.normalization.statistics(raw))

    def forward(self, raw: Tensor) -> Tensor:
        """As ``reconstruct``."""
        return self.reconstruct(raw)

    @property
    def discriminator_trains(self) -> bool:
        """Whether the adversarial game has started."""
        progress = self.current_epoch if self.disc_start_unit == "epochs" else self.batches_seen
        return progress >= self.disc_start

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """One batch: the generator's step, then the discriminator's, each on a network of its own."""
        generator_optimizer, discriminator_optimizer = self.optimizers_at_rate()
        window, adversarial = self.window(batch_idx), self.discriminator_trains
        # Keyed, not from the global state: a resumed run draws the same posterior noise.
        noise = keyed_generator(self.device, self.seed, self.batches_seen, self.global_rank)
        image = self._normalize(batch["image"])

        with generator_optimizer.toggle_model(sync_grad=window.ends):
            posterior = self._encode(self.autoencoder, image)
            reconstruction = self._decode(self.autoencoder, posterior.sample(noise))
            judge = self.discriminator if adversarial else None
            loss, parts = self.objective(image, reconstruction, posterior, judge)
            self.manual_backward(loss / window.size)
        if window.ends:
            with optimization.rescaled_gradients(self, self.discriminator):
                optimization.step_and_clear(generator_optimizer)
            if self.ema is not None:
                self.ema.update(self.autoencoder)

        if adversarial:
            with discriminator_optimizer.toggle_model(sync_grad=window.ends):
                # One forward for both: under DDP, two before one backward are a risk.
                logits = self.discriminator(torch.cat([image, reconstruction.detach()]))[-1]
                parts["discriminator"] = self.adversarial.discriminator(*logits.chunk(2))
                self.manual_backward(parts["discriminator"] / window.size)
            if window.ends:
                optimization.step_and_clear(discriminator_optimizer, counted=False)
            parts["logits_real"], parts["logits_fake"] = (side.float().mean() for side in logits.chunk(2))

        self.batches_seen += 1
        self.log_training({"loss": loss, **parts}, len(image), shown="reconstruction")
        return {"loss": loss.detach()}

    def _balance(self, others: Tensor, adversarial: Tensor) -> Tensor | float:
        """The weight of the adversarial loss."""
        if not self.adaptive_adv_weight:
            return self.adv_weight
        scaler = optimization.grad_scaler(self)
        scale = 1.0 if scaler is None else scaler.get_scale()
        last_layer = optimization.last_layer_weight(self.autoencoder.decoder)
        return self.adv_weight * optimization.adaptive_weight(others, adversarial, last_layer, scale)

    def on_validation_epoch_start(self) -> None:
        self.report.reset(self.device)

    @torch.no_grad()
    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Reconstruction from the posterior's mean, with the averaged weights where there are some."""
        del batch_idx
        raw, image = batch["image"], self._normalize(batch["image"])
        posterior = self._encode(self.inference_autoencoder, image)
        reconstruction = self._decode(self.inference_autoencoder, posterior.mean)
        self.report.add_images(image, reconstruction)
        self.report.add_latents(posterior)
        found = self.normalization.denormalize(reconstruction, self.normalization.statistics(raw))
        self.report.add_bone(raw, found, batch["pixel_mm"])

    def on_validation_epoch_end(self) -> None:
        means = self.report.compute()
        for name, value in means.items():
            self.log(f"val/{name}", value, prog_bar=name == "l1")

    def setup(self, stage: str) -> None:
        """Fits the normalisation where it isn't; compiles in place, which keeps the checkpoint's names."""
        if stage == "fit" and not self.normalization.fitted:
            self.normalization.fit(self.trainer.datamodule.training_images())  # pyright: ignore
        if stage == "fit":
            # The averaged copy is in evaluation mode on purpose.
            warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode")
            rank_zero_info("perceptual loss: %s", "none" if self.perceptual is None else self.perceptual.name)
        if self.compile_networks:
            networks = [self.autoencoder.encoder, self.autoencoder.decoder, self.discriminator]
            optimization.compile_in_place(networks, retains_graph=self.adaptive_adv_weight)
            self.compile_networks = False

    def configure_optimizers(self) -> list[Optimizer]:
        networks = (self.autoencoder, self.discriminator)
        return [self.build_optimizer(*pair) for pair in zip(self.optimizer_factories, networks, strict=True)]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["perceptual"] = "none" if self.perceptual is None else self.perceptual.name

    def _normalize(self, raw: Tensor) -> Tensor:
        image = self.normalization.normalize(raw, self.normalization.statistics(raw))
        return image.to(memory_format=self.memory_format)

    @staticmethod
    def _encode(autoencoder: AutoencoderKL, image: Tensor) -> Posterior:
        mean, std = autoencoder.encode(image)
        return Posterior(losses.at_least_float32(mean), losses.at_least_float32(std))

    @staticmethod
    def _decode(autoencoder: AutoencoderKL, latents: Tensor) -> Tensor:
        return losses.at_least_float32(autoencoder.decode(latents))
