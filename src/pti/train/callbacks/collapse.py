"""Detection of models that train without learning: outputs all alike, or no better than a constant."""

from __future__ import annotations

import math
import sys
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from pti.common.errors import DataError
from pti.modules.adversarial_vae import AdversarialVAE
from pti.modules.manual_optimization import ManualOptimization
from pti.train.callbacks.collapse_discriminator import (
    adversarial_gradient,
    chance_loss,
    describe_win,
    has_won,
)
from pti.train.callbacks.consensus import RankConsensus
from pti.train.callbacks.pictures import compare, example_batch

MIN_STEPS = 200
"""Optimizer steps since the start, or since a resume, before which no model is called collapsed."""

MIN_MOVED = 0.1
"""Sum of an autoencoder's learning rates before which it isn't called collapsed. A step of Adam changes a
weight by about the rate at most: below this sum, weights are still near their initial values (about 0.1)."""

ALIKE = 0.01
"""Outputs are all alike when they vary between images by less than this part of the images' variance."""

WINDOW = 100
"""Batches whose two halves are compared to find out whether a model is still learning."""

GROWTH = 2.0
"""Factor between the halves from which on the variation of reconstructions grows. An autoencoder that leaves
the background gains a factor of ten or more; one that stays there wanders by up to 1.5."""

_STANDARD_ERRORS = 3.0  # between the halves' mean losses, from which on a loss falls
_WATCHED = ("variation", "reconstruction", "loss", "discriminator")
_EXAMPLES = 4  # images that are looked at for tissue
_RATES = (1e-5, 1e-3)  # usual learning rates: conf/model/optimizer/adam.yaml
_KL_WEIGHT = 1e-4  # the largest usual one: conf/model/adversarial_vae.yaml


@dataclass(frozen=True)
class Evidence:
    """Facts from which a collapse is inferred at a validation.

    Attributes:
        metrics: metrics of this validation by name, without ``val/``.
        steps: optimizer steps since the start or since a resume.
        moved: sum of the learning rates of these steps.
        recent: training values of the last `WINDOW` batches by name, without ``train/``.
    """

    metrics: Mapping[str, float]
    steps: int
    moved: float
    recent: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def alike(self) -> bool:
        """Return whether the outputs hardly differ between images."""
        return self.metrics.get("variation", math.nan) < ALIKE

    @property
    def no_better(self) -> bool:
        """Return whether a constant prediction is as good."""
        return self._ratio >= 1

    @property
    def at_baseline(self) -> bool:
        """Return whether the model is useless at this validation, as every model is at first."""
        return self.alike or self.no_better

    @property
    def collapsed(self) -> bool:
        """Return whether the model is at the baseline, is past the warm-up and isn't about to leave it."""
        if self.steps < MIN_STEPS or not self.at_baseline:
            return False
        if not self._autoencoder:
            return not falls(self.recent.get("loss", ()))
        learning = (
            grows(self.recent.get("variation", ()))
            if self.alike
            else falls(self.recent.get("reconstruction", ()))
        )
        return self.moved >= MIN_MOVED and not learning

    @property
    def _autoencoder(self) -> bool:
        return "loss_vs_constant" not in self.metrics

    @property
    def _ratio(self) -> float:
        return self.metrics.get("l1_vs_constant" if self._autoencoder else "loss_vs_constant", math.nan)

    def describe(self, model: Mapping[str, Any], background: bool = False) -> str:
        """Say what has collapsed, by which number, and which key of the configuration ``model`` to turn.

        Args:
            model: the configuration.
            background: whether the outputs are all background.
        """
        outputs, monitored = ("reconstructions", "l1") if self._autoencoder else ("translations", "loss")
        variation, ratio = self.metrics.get("variation", math.nan), self._ratio
        signs = []
        if self.alike:
            what = "background" if background else "alike"
            signs.append(
                f"its {outputs} are all {what}, whatever the image "
                f"(val/variation {variation:.2g}; 1 is right)"
            )
        if self.no_better:
            what = "constant image" if self._autoencoder else "constant prediction"
            signs.append(
                f"it is no better than a {what} (val/{monitored}_vs_constant {ratio:.3g}; below 1 is better)"
            )
        return f"The model has collapsed: {', and '.join(signs)}. {self._advice(model, background)}"

    def _advice(self, model: Mapping[str, Any], background: bool) -> str:
        """Name every setting known to do this, or else the learning rate."""
        key = "generator_optimizer" if self._autoencoder else "optimizer"
        rate, weight = model.get(key, {}).get("lr", math.nan), model.get("kl_weight", 0.0)
        loss = model.get("reconstruction", {}).get("_target_") if background else None
        low, high = _RATES
        settings = []
        if loss == "pti.losses.l1":
            settings.append("with model/reconstruction=l2 (background is a local optimum of l1)")
        if self._autoencoder and weight > _KL_WEIGHT:
            settings.append(f"with model.kl_weight=1e-6 ({weight:g} leaves no information in the latents)")
        if rate < low:
            settings.append(f"with model.{key}.lr=1e-4 ({rate:g} is too low)")
        elif rate > high or not settings:
            better = 3e-4 if rate > high else rate / 3
            settings.append(f"with model.{key}.lr={better:.1g} ({rate:g} is too high here)")
        return f"Start again {' and '.join(settings)}."


def grows(values: Sequence[float]) -> bool:
    """Return whether the geometric mean of the second half is more than `GROWTH` times that of the first."""
    logs = torch.tensor(values, dtype=torch.float64).clamp_min(1e-30).log()
    half = len(logs) // 2
    return half > 0 and float(logs[half:].mean() - logs[:half].mean()) > math.log(GROWTH)


def falls(values: Sequence[float]) -> bool:
    """Return whether the mean of the second half is significantly below that of the first."""
    series = torch.tensor(values, dtype=torch.float64)
    half = len(series) // 2
    if half < 2:
        return False
    first, second = series[:half], series[half:]
    error = (first.var() / len(first) + second.var() / len(second)).sqrt()
    return float(first.mean() - second.mean()) > _STANDARD_ERRORS * float(error)


def _all_background(trainer: Trainer, module: LightningModule) -> bool:
    batch = example_batch(trainer, _EXAMPLES) if isinstance(module, ManualOptimization) else {}
    if not batch:
        return False
    *_, outputs = compare(trainer, cast("ManualOptimization", module), batch)["examples"].columns.values()
    return not outputs.any()


class CollapseCheck(Callback):
    """Say at a validation that the model has collapsed or that its discriminator has won, and why.

    A model is at the *baseline* when its outputs are all alike or when a constant prediction is as good.
    Every model is at first; after a warm-up, one that isn't about to leave the baseline has collapsed.
    Nothing is stored in checkpoints: a resumed run, perhaps with other settings, gets a new warm-up.

    Args:
        stop: end the run with exit code 1 after a checkpoint.

    Attributes:
        config: the run's configuration; set by the run.
        finding: a sentence on the last validation; empty for a model that learns.
        at_baseline: whether the model was at the baseline in the last validation.
    """

    def __init__(self, stop: bool = False) -> None:
        self.stop = stop
        self.config: Mapping[str, Any] = {}
        self.finding = ""
        self.at_baseline = False
        self._consensus = RankConsensus()
        self._recent: dict[str, deque[Tensor]] = defaultdict(lambda: deque(maxlen=WINDOW))
        self._first_step = self._step = 0
        self._moved = 0.0
        self._gradient = math.nan

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Connect the ranks."""
        self._consensus.open()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the warm-up."""
        self._first_step = self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the values of this batch, on the device and without waiting for it."""
        values = pl_module.batch_values if isinstance(pl_module, ManualOptimization) else {}
        for name in _WATCHED:
            if name in values:
                self._recent[name].append(values[name])
        if trainer.global_step > self._step:
            self._moved += trainer.optimizers[0].param_groups[0]["lr"]
            self._step = trainer.global_step

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Measure what the discriminator teaches, in the first batch."""
        if batch_idx == 0 and isinstance(pl_module, AdversarialVAE) and pl_module.discriminator_trains:
            self._gradient = adversarial_gradient(pl_module, batch["image"])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the model with the baseline; rank 0 decides for all."""
        if trainer.sanity_checking:
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        evidence = Evidence(
            {name.removeprefix("val/"): value for name, value in metrics.items() if name.startswith("val/")},
            self._step - self._first_step,
            self._moved,
            {name: torch.stack(list(values)).tolist() for name, values in self._recent.items()},
        )
        model = self.config.get("model", {})
        if evidence.collapsed:
            finding = evidence.describe(model, evidence.alike and _all_background(trainer, pl_module))
        else:
            finding = self._judge(pl_module, evidence, model)
        self.finding, self.at_baseline = self._consensus.gather((finding, evidence.at_baseline))[0]
        if self.finding and trainer.is_global_zero and not self.stop:
            print(f"Warning: {self.finding}", file=sys.stderr, flush=True)

    def _judge(self, module: LightningModule, evidence: Evidence, model: Mapping[str, Any]) -> str:
        """Describe a discriminator that has won; empty otherwise."""
        losses = evidence.recent.get("discriminator", ())
        if not isinstance(module, AdversarialVAE) or module.adversarial is None or len(losses) < WINDOW:
            return ""
        numbers = losses, chance_loss(module.adversarial), self._gradient
        return describe_win(*numbers, model) if has_won(*numbers) else ""

    @property
    def stops(self) -> bool:
        """Return whether the run is to end."""
        return self.stop and bool(self.finding)

    def error(self, steps: int) -> DataError:
        """Build the error that ends the run after a number of optimizer steps."""
        return DataError(
            f"{self.finding} Stopped after step {steps}; last.ckpt is saved. To train on nevertheless: "
            "ckpt_path=last stop_on_collapse=false, with allow_config_changes=true if other settings change."
        )
