"""What all second-stage modules share: one network is trained, dente images become edente images."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pti.common.errors import UsageError
from pti.common.randomness import keyed_generator, sample_generator
from pti.data import resize
from pti.data.dataset import TifDataset
from pti.data.normalization import Normalization
from pti.data.splits import evenly_spaced
from pti.diffusion.samplers import Progress, Sampler
from pti.drawing.figures import Comparison
from pti.modules import optimization
from pti.modules.manual_optimization import ManualTraining
from pti.modules.optimization import LrSchedule, OptimizerFactory
from pti.modules.translation_report import TranslationReport
from pti.networks.ema import Ema


class Translation(ManualTraining):
    """Training, validation and pictures of a module that translates a condition into a target.

    Batches are dicts with ``condition`` and ``target``: raw images (B, 1, H, W) float32, background exactly
    0; ``name`` (list of str) and, for validation, ``pixel_mm`` (B,). A subclass says what the network
    minimises (`training_loss`), what validation measures (`validation_loss`) and how it translates.

    Validation translates ``validation_images`` images, the same ones each time and with the same noise.
    """

    deterministic = True
    """Whether there is one answer to a condition."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: OptimizerFactory,
        lr_schedule: LrSchedule | None = None,
        *,
        gradient_clip_val: float | None = None,
        accumulate_grad_batches: int = 1,
        scale_lr_by_devices: bool = False,
        ema_decay: float | None = None,
        ema_update_every: int = 1,
        channels_last: bool = False,
        compile: bool = False,
        validation_images: int = 16,
        bone_metrics: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(lr_schedule, gradient_clip_val, accumulate_grad_batches, scale_lr_by_devices)
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=memory_format)  # pyright: ignore[reportCallIssue]
        self.ema = Ema(self.network, ema_decay, ema_update_every) if ema_decay else None
        self.optimizer_factory = optimizer
        self.compile_networks = compile
        self.validation_images = validation_images
        self.seed = seed
        self.report = TranslationReport(bone_metrics)
        self._translated: frozenset[str] = frozenset()

    @property
    def inference_network(self) -> nn.Module:
        """The network to use: the averaged one where there is an average."""
        return self.network if self.ema is None else self.ema.model

    @property
    @abstractmethod
    def normalization(self) -> Normalization:
        """Of the images, for conditions and targets alike."""

    @abstractmethod
    def training_loss(self, batch: dict[str, Any], generator: torch.Generator) -> Tensor:
        """The loss () of a batch; all its randomness comes from ``generator``, on the CPU."""

    @abstractmethod
    def validation_loss(self, batch: dict[str, Any]) -> Tensor:
        """The loss of each image (B,), of the network for inference, with noise that depends on the names."""

    @abstractmethod
    def translate(
        self,
        raw: Tensor,
        generators: Sequence[torch.Generator],
        *,
        sampler: Sampler | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
        progress: Progress = None,
    ) -> Tensor:
        """Raw dente images (B, 1, H, W) -> raw edente images (B, 1, H, W), background exactly 0.

        Args:
            raw: float32, background exactly 0, of the size that was trained on.
            generators: one on the CPU for each image; all noise comes from them.
            sampler: a function of `pti.diffusion.samplers`; None = the module's own.
            steps: of the sampler; None = the module's own.
            guidance_scale: 1 = none; None = the module's own.
            progress: called after each step of the sampler.
        """

    def at_own_size(self, raw: np.ndarray, found: np.ndarray) -> np.ndarray:
        """Translations (N, S, S) of a raw image (H, W) that was resized to (S, S), as (N, H, W)."""
        height, width = raw.shape
        return resize.restore_size(found, (height, width))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """One batch of the only network that is trained."""
        (optimizer,) = self.optimizers_at_rate()
        window = self.window(batch_idx)
        # Keyed, not from the global state: a resumed run draws the same noise.
        generator = keyed_generator("cpu", self.seed, self.batches_seen, self.global_rank)
        with optimizer.toggle_model(sync_grad=window.ends):
            loss = self.training_loss(batch, generator)
            self.manual_backward(loss / window.size)
        if window.ends:
            optimization.step_and_clear(optimizer)
            if self.ema is not None:
                self.ema.update(self.network)
        self.batches_seen += 1
        self.log_training({"loss": loss}, len(batch["name"]), shown="loss")
        return {"loss": loss.detach()}

    def on_validation_epoch_start(self) -> None:
        self.report.reset(self.device)
        names = [sample.name for sample in validation_set(self.trainer).samples]
        # Not in the trial before training: full-size sampling takes minutes on a CPU, and says nothing then.
        wanted = 0 if self.trainer.sanity_checking else self.validation_images
        self._translated = frozenset(evenly_spaced(names, wanted))

    @torch.no_grad()
    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """The loss on every image, the translation of some."""
        del batch_idx
        self.report.add_loss(self.validation_loss(batch))
        chosen = [index for index, name in enumerate(batch["name"]) if name in self._translated]
        if chosen:
            condition, target = batch["condition"][chosen], batch["target"][chosen]
            names = [batch["name"][index] for index in chosen]
            found = self.translate(condition, [sample_generator(self.seed, name, 0) for name in names])
            statistics = self.normalization.statistics(condition)
            images = [self.normalization.normalize(raw, statistics) for raw in (target, found)]
            self.report.add_images(*images)
            self.report.add_bone(target, found, batch["pixel_mm"][chosen])

    def on_validation_epoch_end(self) -> None:
        means = self.report.compute()
        for name, value in means.items():
            self.log(f"val/{name}", value, prog_bar=name == "loss")

    @torch.no_grad()
    def example_pictures(self, batch: dict[str, Any]) -> dict[str, Comparison]:
        """Condition, target, and what the module makes of the condition."""
        columns = {"condition": batch["condition"], "target": batch["target"]}
        answers = ["translation"] if self.deterministic else ["sample 1", "sample 2"]
        for number, title in enumerate(answers):
            generators = [sample_generator(self.seed, name, number) for name in batch["name"]]
            columns[title] = self.translate(batch["condition"], generators)
        arrays = {title: raw.float().squeeze(1).cpu().numpy() for title, raw in columns.items()}
        return {"examples": Comparison(arrays, batch["name"], difference=("target", answers[0]))}

    def setup(self, stage: str) -> None:
        """Refuses data without pairs; compiles in place, which keeps the checkpoint's names."""
        sources = self.trainer.datamodule.sources if stage == "fit" else "pairs"  # pyright: ignore
        if sources != "pairs":
            raise UsageError(
                f"data.sources={sources}: a translation learns from pairs. Set data.sources=pairs."
            )
        if self.compile_networks:
            optimization.compile_in_place([self.network], retains_graph=False)
            self.compile_networks = False

    def configure_optimizers(self) -> Optimizer:
        return self.build_optimizer(self.optimizer_factory, self.network)


def validation_set(trainer: Any) -> TifDataset:
    """The images that the trainer validates on."""
    loaders = trainer.val_dataloaders
    return (loaders[0] if isinstance(loaders, (list, tuple)) else loaders).dataset
