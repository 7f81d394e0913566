"""A LightningModule that steps its optimizers itself, and does what Lightning then leaves to it."""

from __future__ import annotations

from typing import Any

from lightning import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer

from pti.common.errors import UsageError
from pti.modules import optimization
from pti.modules.optimization import AccumulationWindow, LrSchedule, OptimizerFactory


class ManualTraining(LightningModule):
    """Rate schedule, gradient clipping and accumulation under manual optimization, exact across a resume.

    ``global_step`` counts the steps of the first optimizer only. ``batches_seen`` counts batches, and is kept
    in the checkpoint.
    """

    def __init__(
        self,
        lr_schedule: LrSchedule | None = None,
        gradient_clip_val: float | None = None,
        accumulate_grad_batches: int = 1,
        scale_lr_by_devices: bool = False,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        if accumulate_grad_batches < 1:
            raise UsageError(
                f"model.accumulate_grad_batches: found {accumulate_grad_batches}, expected at least 1"
            )
        self.lr_schedule = lr_schedule or LrSchedule()
        self.gradient_clip_val = gradient_clip_val
        self.accumulate_grad_batches = accumulate_grad_batches
        self.scale_lr_by_devices = scale_lr_by_devices
        self.batches_seen = 0
        self._resumed_gradients: dict[str, Tensor] = {}

    def window(self, batch_idx: int) -> AccumulationWindow:
        """Where a batch stands in its accumulation window."""
        batches = self.trainer.num_training_batches
        return optimization.accumulation_window(batch_idx, self.accumulate_grad_batches, batches)

    def build_optimizer(self, factory: OptimizerFactory, network: nn.Module) -> Optimizer:
        """The optimizer of a network's trainable parameters, its rate scaled by the devices if configured."""
        factor = self.trainer.world_size if self.scale_lr_by_devices else 1
        scaled = optimization.grad_scaler(self) is not None
        return optimization.build_optimizer(factory, network, factor, scaled)

    def optimizers_at_rate(self) -> list[LightningOptimizer]:
        """The optimizers, each at the schedule's rate for this step; logs the first one's."""
        found = self.optimizers()
        optimizers = found if isinstance(found, list) else [found]
        total = optimization.total_steps(self.trainer, self.accumulate_grad_batches)
        factor = self.lr_schedule.factor(self.global_step, total)
        for optimizer in optimizers:
            optimization.set_rate(optimizer, factor)
        self.log("train/lr", optimizers[0].param_groups[0]["lr"])
        return optimizers

    def log_training(self, values: dict[str, Tensor], batch_size: int, shown: str | None = None) -> None:
        """Logs ``train/NAME`` for each; ``shown`` goes to the progress bar."""
        for name, value in values.items():
            self.log(f"train/{name}", value.detach(), prog_bar=name == shown, batch_size=batch_size)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clips: here fp16 gradients are unscaled already."""
        if self.gradient_clip_val is not None:
            optimization.clip_gradients(optimizer, self.gradient_clip_val, optimization.grad_scaler(self))

    def on_validation_model_zero_grad(self) -> None:
        """Keeps the gradients of an accumulation window that a validation interrupts."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["batches_seen"] = self.batches_seen
        # There are some only inside an accumulation window. Under DDP each rank has its own share until the
        # window ends; the mean, given to all of them, leads to the same step.
        gradients = {name: p.grad for name, p in self.named_parameters() if p.grad is not None}
        if self.trainer.world_size > 1:
            reduce = self.trainer.strategy.reduce  # in place
            gradients = {name: reduce(grad.clone(), reduce_op="mean") for name, grad in gradients.items()}
        checkpoint["accumulated_gradients"] = gradients

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.batches_seen = checkpoint["batches_seen"]
        self._resumed_gradients = checkpoint["accumulated_gradients"]

    def on_train_start(self) -> None:
        """Goes on with a window's gradients; any set before now Lightning has cleared."""
        parameters = dict(self.named_parameters())
        for name, gradient in self._resumed_gradients.items():
            parameters[name].grad = gradient.to(parameters[name])
        self._resumed_gradients = {}
