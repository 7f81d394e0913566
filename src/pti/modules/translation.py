"""The base of all second-stage modules, which translate dente images into edente images."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from pti.common.errors import UsageError
from pti.common.randomness import sample_generator, sample_rank
from pti.data import resize
from pti.data.dataset import TifDataset
from pti.data.normalization import Normalization
from pti.data.splits import evenly_spaced
from pti.diffusion.samplers import Progress, Sampler
from pti.drawing.figures import Comparison
from pti.modules.examples import comparison
from pti.modules.latent_space import LatentSpace
from pti.modules.latent_space.preparation import prepare_latents
from pti.modules.manual_optimization import ManualOptimization
from pti.modules.optimization import OptimizerFactory
from pti.modules.raw_agreement import BONE
from pti.modules.tif_data import TifDataModule
from pti.modules.validation_metrics import ValidationMetrics


class Translation(ManualOptimization):
    """Validation and pictures of a module that translates a condition into a target.

    Batches are dicts with ``condition`` and ``target``: raw images (B, 1, H, W) float32, background exactly
    0; ``name`` (list of str) and, for validation, ``pixel_mm`` (B,). A subclass defines the training step,
    the loss of each validation image, and the translation.

    Validation translates ``validation_images`` images, always the same ones, with the same noise and with the
    median of predicted sizes.

    Args:
        network: the network that is trained.
        optimizer: parameters -> optimizer.
        latent_space: where the network works; None = on normalised images.
        validation_images: number of images that validation translates.
        bone_metrics: measure bone in validation.
        training: of `ManualOptimization`.
    """

    metric_shown = "loss"
    deterministic = True
    """True when there is exactly one translation of a condition."""
    spreads_samples = False
    """True when ``ranks`` spread the samples of an image evenly over a predicted distribution."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: OptimizerFactory,
        latent_space: LatentSpace | None = None,
        *,
        validation_images: int = 16,
        bone_metrics: bool = True,
        **training: Any,
    ) -> None:
        super().__init__(**training)
        if latent_space is not None:
            latent_space.check_channels(network)
        self.latent_space = latent_space
        self.network = self.in_memory_format(network)
        self.ema = self.average_of(self.network)
        self.trained_networks, self.optimizer_factories = (self.network,), (optimizer,)
        self.validation_images = validation_images
        self.metrics = ValidationMetrics([BONE] * bone_metrics, ["loss", "constant_loss"])
        self._translated: frozenset[str] = frozenset()
        self._collected: list[dict[str, Any]] = []

    @property
    def normalization(self) -> Normalization:
        """Normalisation of conditions and targets: the latent space's, unless a subclass has another one."""
        assert self.latent_space is not None
        return self.latent_space.normalization

    @property
    def inference_network(self) -> nn.Module:
        """The averaged network where there is an average; otherwise the trained one."""
        return self.network if self.ema is None else self.ema.model

    @abstractmethod
    def validation_loss(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Return the loss (B,) of ``inference_network`` on each image, with noise keyed by the names.

        Also return the loss (B,) of the best constant prediction for each image: no network needs to see its
        input for that.
        """

    @abstractmethod
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
        """Translate raw dente images (B, 1, H, W) to raw edente images (N, 1, H, W), background exactly 0.

        Args:
            raw: float32, background exactly 0, of the size that was trained on.
            generators: (N,), one on the CPU for each sample; all noise comes from them.
            images: (N,), index in ``raw`` of the image of each sample, which is then encoded once for all of
                its samples; None = one sample of each image, N = B.
            ranks: (N,) in [0, 1), the quantile of a predicted size that each sample has, if the module
                predicts sizes; None = random.
            sampler: a function of `pti.diffusion.samplers`; None = the module's own.
            steps: of the sampler; None = the module's own.
            guidance_scale: 1 = none; None = the module's own.
            progress: called after each step of the sampler.

        Raises:
            UsageError: the module does not support a setting.
        """

    def resolve_sampling(
        self, sampler: Sampler | None, steps: int | None, guidance_scale: float | None
    ) -> dict[str, Any]:
        """Return ``sampler``, ``steps`` and ``guidance_scale``, with the module's own values for None.

        Raises:
            UsageError: the module does not support a given value.
        """
        settings = {"sampler": sampler, "steps": steps, "guidance_scale": guidance_scale}
        given = [name for name, value in settings.items() if value is not None]
        if given:
            raise UsageError(
                f"{', '.join(given)}: {type(self).__name__} translates in one pass, without a sampler. Omit "
                f"{' and '.join(given)}, or choose the checkpoint of a diffusion model."
            )
        return settings

    def at_own_size(self, raw: np.ndarray, translations: np.ndarray) -> np.ndarray:
        """Resize translations (N, S, S) of a raw image (H, W) to its own size, (N, H, W)."""
        if self.latent_space is not None:
            return self.latent_space.at_own_size(raw, translations)
        height, width = raw.shape
        return resize.restore_size(translations, (height, width))

    @override
    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        names = [sample.name for sample in _validation_set(self.trainer).samples]
        # Not in the sanity check before training: on a CPU, sampling at full size takes minutes.
        count = 0 if self.trainer.sanity_checking else self.validation_images
        self._translated = frozenset(evenly_spaced(names, count))
        self._collected = []

    @override
    @torch.no_grad()
    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Compute the loss of every image, and translate some: as many at a time as a batch has."""
        for name, losses in zip(("loss", "constant_loss"), self.validation_loss(batch), strict=True):
            self.metrics.add(name, losses)
        for index, name in enumerate(batch["name"]):
            if name in self._translated:
                images = {key: batch[key][index] for key in ("condition", "target", "pixel_mm")}
                self._collected.append({"name": name, **images})
        if len(self._collected) >= len(batch["name"]):
            self._translate_collected()

    def _translate_collected(self) -> None:
        """Translate and measure the images collected so far."""
        if not self._collected:
            return
        condition, target, pixel_mm = (
            torch.stack([sample[key] for sample in self._collected])
            for key in ("condition", "target", "pixel_mm")
        )
        generators = [sample_generator(self.seed, sample["name"], 0) for sample in self._collected]
        self._collected = []
        translation = self.translate(condition, generators, ranks=[0.5] * len(generators))
        statistics = self.normalization.statistics(condition)
        self.metrics.add_images(
            *(self.normalization.normalize(raw, statistics) for raw in (target, translation))
        )
        self.metrics.add_raw(target, translation, pixel_mm)

    @override
    @torch.no_grad()
    def on_validation_epoch_end(self) -> None:
        with self.trainer.precision_plugin.forward_context():
            self._translate_collected()
        super().on_validation_epoch_end()

    @override
    @torch.no_grad()
    def example_pictures(self, batch: dict[str, Any]) -> dict[str, Comparison]:
        columns = {"condition": batch["condition"], "target": batch["target"]}
        titles = ["translation"] if self.deterministic else ["sample 1", "sample 2"]
        for number, title in enumerate(titles):
            generators = [sample_generator(self.seed, name, number) for name in batch["name"]]
            ranks = [sample_rank(self.seed, name, number) for name in batch["name"]]
            columns[title] = self.translate(batch["condition"], generators, ranks=ranks)
        return {"examples": comparison(columns, batch["name"], difference=("target", titles[0]))}

    @override
    def setup(self, stage: str) -> None:
        """Refuse data without pairs and unsuitable image sizes; compile."""
        if stage == "fit":
            require_pairs(self.datamodule, with_sizes=self.spreads_samples)
        if stage == "fit" and self.latent_space is not None:
            self.latent_space.check_image_size(self.datamodule.image_size, self.network)
        self.compile_in_place([self.network])

    @override
    def on_fit_start(self) -> None:
        """Encode the training set and measure the latents, where that is not done yet."""
        if self.latent_space is not None:
            prepare_latents(self.latent_space, self.datamodule, self.trainer)


def require_pairs(data: TifDataModule, with_sizes: bool = False) -> None:
    """Refuse a data module that serves single images, or targets with another ridge than the patient's.

    Args:
        data: the data module.
        with_sizes: whether the model is given the sizes of the target's bone.

    Raises:
        UsageError: it does.
    """
    if not with_sizes and data.augmentation is not None and data.augmentation.ridge:
        raise UsageError(
            f"data.augmentation.ridge={data.augmentation.ridge}: it changes what this model learns. "
            "Set data.augmentation.ridge=0 or model/size_condition=predicted."
        )
    if data.sources != "pairs":
        raise UsageError(
            f"data.sources={data.sources}: a second stage is trained on pairs. Set data.sources=pairs."
        )


def _validation_set(trainer: Any) -> TifDataset:
    loaders = trainer.val_dataloaders
    return (loaders[0] if isinstance(loaders, (list, tuple)) else loaders).dataset
