"""Functions for manual optimization: learning rates, accumulation windows, clipping, counted steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any, Literal, cast

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer, do_nothing_closure
from torch import Tensor, nn
from torch.optim import Optimizer

from pti.common.errors import UsageError

OptimizerFactory = Callable[..., Optimizer]
"""``parameters -> Optimizer``, as a ``_partial_: true`` in YAML builds it."""


@dataclass(frozen=True)
class LrSchedule:
    """The factor of the learning rate, a function of the step alone: resuming needs no stored state.

    Attributes:
        warmup_steps: steps over which the factor rises linearly.
        decay: ``constant``; fall along a ``cosine`` or a ``linear`` ramp; or ``multistep``: fall by the same
            factor at each milestone.
        final_factor: the factor at the last step, 0 to 1; no effect with ``constant``.
        milestones: of ``multistep``, as fractions of the training, ascending.
    """

    warmup_steps: int = 0
    decay: Literal["constant", "cosine", "linear", "multistep"] = "constant"
    final_factor: float = 0.0
    milestones: Sequence[float] = (0.6, 0.85)

    def __post_init__(self) -> None:
        if self.decay not in ("constant", "cosine", "linear", "multistep"):
            raise UsageError(
                f"model.lr_schedule.decay={self.decay}: expected constant, cosine, linear or multistep."
            )
        if self.decay == "multistep" and not self.final_factor > 0:
            raise UsageError(
                f"model.lr_schedule.final_factor={self.final_factor}: expected a number above 0, such as "
                "0.01, for the decay multistep."
            )
        inside = all(0 < milestone < 1 for milestone in self.milestones)
        if not self.milestones or not inside or list(self.milestones) != sorted(set(self.milestones)):
            raise UsageError(
                f"model.lr_schedule.milestones={list(self.milestones)}: expected ascending fractions of the "
                "training between 0 and 1, such as [0.6,0.85]."
            )

    def factor(self, step: int, total: float) -> float:
        """Return the factor, in (0, 1], of step 0 … total − 1.

        Raises:
            UsageError: the decay needs an end, and ``total`` is infinite.
        """
        if self.decay != "constant" and not math.isfinite(total):
            raise UsageError(
                f"model.lr_schedule.decay={self.decay} needs the length of the training. "
                "Set trainer.max_epochs or trainer.max_steps, or model.lr_schedule.decay=constant."
            )
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.decay == "constant":
            return 1.0
        if self.decay == "multistep":
            # A fraction such as 7 / 50 of 50 steps is rounded to slightly more than 7.
            passed = sum(step >= milestone * total - 1e-6 for milestone in self.milestones)
            return self.final_factor ** (passed / len(self.milestones))
        progress = min(1.0, (step - self.warmup_steps) / max(1.0, total - 1 - self.warmup_steps))
        remaining = 0.5 * (1 + math.cos(math.pi * progress)) if self.decay == "cosine" else 1 - progress
        return self.final_factor + (1 - self.final_factor) * remaining


@dataclass(frozen=True)
class AccumulationWindow:
    """The window of batches whose gradients are accumulated for one step.

    Attributes:
        size: batches in the window; the last window of an epoch may be shorter than the others.
        ends: True for the last batch of the window.
    """

    size: int
    ends: bool


def accumulation_window(batch_idx: int, accumulate: int, batches: float) -> AccumulationWindow:
    """Return the window of batch ``batch_idx`` in an epoch of ``batches``, which may be infinite."""
    first = batch_idx // accumulate * accumulate
    size = int(min(accumulate, batches - first))
    return AccumulationWindow(size, ends=batch_idx + 1 == first + size)


def total_steps(trainer: Trainer, accumulate: int) -> float:
    """Return the number of the first optimizer's steps in the whole training; infinite when unlimited.

    ``Trainer.estimated_stepping_batches`` is avoided: reading it makes Lightning drop a loader's restored
    position.
    """
    batches, epochs = trainer.num_training_batches, trainer.max_epochs
    steps = math.inf if trainer.max_steps < 0 else trainer.max_steps
    if batches == math.inf or epochs is None or epochs < 0:
        return steps
    return min(steps, epochs * math.ceil(batches / accumulate))


def build_optimizer(
    factory: OptimizerFactory, network: nn.Module, rate_factor: float = 1.0, scaled: bool = False
) -> Optimizer:
    """Build the optimizer of a network's trainable parameters, with its learning rate times ``rate_factor``.

    On the CPU, optimizers that support it are fused: one call for all tensors instead of one for each. Not
    for ``scaled`` gradients (fp16): a fused optimizer unscales them itself, too late for clipping. On a GPU,
    the default is as fast.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    if isinstance(factory, partial) and "fused" in signature(factory.func).parameters:
        fused = not scaled and all(p.device.type == "cpu" for p in parameters)
        factory = partial(factory, **{"fused": fused or None, **factory.keywords})
    optimizer = factory(parameters)
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] = group["lr"] * rate_factor
    return optimizer


def settings_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return the settings (learning rate, betas, …) of each parameter group."""
    return [
        {name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups
    ]


def apply_settings(optimizer: LightningOptimizer | Optimizer, settings: list[dict[str, Any]]) -> None:
    """Replace the settings of each parameter group; the optimizer's state stays."""
    for group, values in zip(optimizer.param_groups, settings, strict=True):
        group.update(values)


def set_rate(optimizer: LightningOptimizer | Optimizer, factor: float) -> None:
    """Set the learning rate of every group to ``factor`` times its initial one."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


def clip_gradients(optimizer: Optimizer, max_norm: float, scaler: Any = None) -> None:
    """Scale gradients down to the norm ``max_norm``; call in ``on_before_optimizer_step``, after unscaling.

    Raises:
        UsageError: the optimizer unscales inside its step, so that clipping before it would be wrong.
    """
    if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
        raise UsageError(
            "model.gradient_clip_val does not work with fp16 and a fused optimizer, which unscales gradients "
            "itself. Set trainer.precision=bf16-mixed or model.gradient_clip_val=null, or leave out the "
            "optimizer's fused=true."
        )
    torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], max_norm)


def average_gradients(network: nn.Module, trainer: Trainer) -> None:
    """Replace a network's gradients by their means over the ranks, in a single reduction.

    Every rank must hold gradients of the same weights.
    """
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    if trainer.world_size == 1 or not gradients:
        return
    means = trainer.strategy.reduce(
        torch.cat([gradient.flatten() for gradient in gradients]), reduce_op="mean"
    )
    assert isinstance(means, Tensor)
    for gradient, mean in zip(gradients, means.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def step_and_clear(optimizer: LightningOptimizer, counted: bool = True) -> None:
    """Take one step and clear the gradients; Lightning's ``global_step`` counts it only when ``counted``."""
    if not counted:
        optimizer._on_before_step = optimizer._on_after_step = do_nothing_closure
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


@contextmanager
def rescaled_gradients(module: LightningModule, networks: Sequence[nn.Module]) -> Iterator[None]:
    """Rescale the accumulated gradients of ``networks`` when the fp16 scale changes inside the block."""
    scaler = grad_scaler(module)
    gradients = [p.grad for network in networks for p in network.parameters() if p.grad is not None]
    if scaler is None or not gradients:
        yield
        return
    before = scaler.get_scale()
    yield
    if scaler.get_scale() != before:
        for gradient in gradients:
            gradient.mul_(scaler.get_scale() / before)


def grad_scaler(module: LightningModule) -> Any:
    """Return the trainer's fp16 GradScaler, or None."""
    return getattr(module.trainer.precision_plugin, "scaler", None)


def last_layer_weight(network: nn.Module) -> nn.Parameter:
    """Return the weight of the layer that was registered last (a matrix or kernel, not a bias)."""
    return cast(nn.Parameter, [p for p in network.parameters() if p.ndim > 1][-1])


def adaptive_weight(
    reference: Tensor, adversarial: Tensor, weight: nn.Parameter, scale: float = 1.0
) -> Tensor:
    """Return ‖∇reference‖ / ‖∇adversarial‖ at ``weight``, at most 1e4, detached (Esser et al. 2021, eq. 7).

    ``scale`` keeps fp16 gradients representable; it cancels.
    """
    norms = [
        torch.autograd.grad(loss * scale, weight, retain_graph=True)[0].float().norm() / scale
        for loss in (reference, adversarial)
    ]
    return (norms[0] / (norms[1] + 1e-4)).clamp(max=1e4).detach()


def compile_in_place(networks: Sequence[nn.Module], retains_graph: bool) -> None:
    """Compile each network by ``Module.compile``, which keeps the names in its ``state_dict``.

    ``retains_graph`` says that a backward pass keeps its graph (the adaptive weight): compiled code must then
    not reuse buffers.
    """
    if retains_graph:
        import torch._functorch.config

        torch._functorch.config.donated_buffer = False
    for network in networks:
        network.compile()
