"""What manual optimization leaves to the module: rates, accumulation windows, clipping, counting steps."""

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
    """The learning rate's factor, a function of the step alone: nothing to save for resuming.

    Rises linearly over ``warmup_steps``, then stays (``constant``) or falls (``cosine``, ``linear``) to
    ``final_factor`` times the rate at the last step.
    """

    warmup_steps: int = 0
    decay: Literal["constant", "cosine", "linear"] = "constant"
    final_factor: float = 0.0

    def __post_init__(self) -> None:
        if self.decay not in ("constant", "cosine", "linear"):
            raise UsageError(
                f"model.lr_schedule.decay: found {self.decay}, expected constant, cosine or linear"
            )

    def factor(self, step: int, total: float) -> float:
        """Factor in (0, 1] for step 0 … total-1. Raises ``UsageError`` for a decay without a known end."""
        if self.decay != "constant" and not math.isfinite(total):
            raise UsageError(
                f"model.lr_schedule.decay={self.decay} needs the length of the training; "
                "set trainer.max_epochs or trainer.max_steps, or model.lr_schedule.decay=constant"
            )
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.decay == "constant":
            return 1.0
        progress = min(1.0, (step - self.warmup_steps) / max(1.0, total - 1 - self.warmup_steps))
        remaining = 0.5 * (1 + math.cos(math.pi * progress)) if self.decay == "cosine" else 1 - progress
        return self.final_factor + (1 - self.final_factor) * remaining


@dataclass(frozen=True)
class AccumulationWindow:
    """Where a batch stands in its accumulation window; the last window of an epoch may be shorter."""

    size: int
    ends: bool


def accumulation_window(batch_idx: int, accumulate: int, batches: float) -> AccumulationWindow:
    """The window of batch ``batch_idx`` of an epoch of ``batches`` (may be inf)."""
    first = batch_idx // accumulate * accumulate
    size = int(min(accumulate, batches - first))
    return AccumulationWindow(size, ends=batch_idx + 1 == first + size)


def total_steps(trainer: Trainer, accumulate: int) -> float:
    """Optimizer steps (of the first optimizer) in the whole training; inf when nothing limits it.

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
    """The optimizer of a network's trainable parameters, its rate times ``rate_factor``.

    On the CPU it is a fused one where there is a choice: one call for all tensors, where the default is one
    for each. Not for ``scaled`` gradients (fp16): it would unscale them itself, too late for clipping. On a
    GPU the default is as fast.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    if isinstance(factory, partial) and "fused" in signature(factory.func).parameters:
        fused = not scaled and all(p.device.type == "cpu" for p in parameters)
        factory = partial(factory, **{"fused": fused or None, **factory.keywords})
    optimizer = factory(parameters)
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] = group["lr"] * rate_factor
    return optimizer


def set_rate(optimizer: LightningOptimizer | Optimizer, factor: float) -> None:
    """Sets the rate of every group to ``factor`` times its initial one."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


def clip_gradients(optimizer: Optimizer, max_norm: float, scaler: Any = None) -> None:
    """Scales gradients down to the norm ``max_norm``; for ``on_before_optimizer_step``, after unscaling.

    Raises ``UsageError`` for an optimizer that unscales inside its step: a clip before it would be wrong.
    """
    if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
        raise UsageError(
            "model.gradient_clip_val can't be used with fp16 and a fused optimizer, "
            "which unscales gradients itself; set fused=false, trainer.precision=bf16-mixed "
            "or model.gradient_clip_val=null"
        )
    torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], max_norm)


def step_and_clear(optimizer: LightningOptimizer, counted: bool = True) -> None:
    """One step, then no gradients. Lightning's ``global_step`` counts it only when ``counted``."""
    if not counted:
        optimizer._on_before_step = optimizer._on_after_step = do_nothing_closure
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


@contextmanager
def rescaled_gradients(module: LightningModule, network: nn.Module) -> Iterator[None]:
    """Keeps what ``network`` has accumulated right when the fp16 scale changes inside the block."""
    scaler = grad_scaler(module)
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    if scaler is None or not gradients:
        yield
        return
    before = scaler.get_scale()
    yield
    if scaler.get_scale() != before:
        for gradient in gradients:
            gradient.mul_(scaler.get_scale() / before)


def grad_scaler(module: LightningModule) -> Any:
    """The trainer's fp16 GradScaler, or None."""
    return getattr(module.trainer.precision_plugin, "scaler", None)


def last_layer_weight(network: nn.Module) -> nn.Parameter:
    """The weight of the layer that was registered last (a matrix or kernel, not a bias)."""
    return cast(nn.Parameter, [p for p in network.parameters() if p.ndim > 1][-1])


def adaptive_weight(
    reference: Tensor, adversarial: Tensor, weight: nn.Parameter, scale: float = 1.0
) -> Tensor:
    """‖∇reference‖ / ‖∇adversarial‖ at ``weight``, at most 1e4, no gradient (Esser et al. 2021, eq. 7).

    ``scale`` keeps fp16 gradients representable; it cancels.
    """
    norms = [
        torch.autograd.grad(loss * scale, weight, retain_graph=True)[0].float().norm() / scale
        for loss in (reference, adversarial)
    ]
    return (norms[0] / (norms[1] + 1e-4)).clamp(max=1e4).detach()


def compile_in_place(networks: Sequence[nn.Module], retains_graph: bool) -> None:
    """``Module.compile`` for each: names in the ``state_dict`` stay as they are.

    ``retains_graph``: some backward keeps its graph (the adaptive weight), for which compiled code must not
    reuse buffers.
    """
    if retains_graph:
        import torch._functorch.config

        torch._functorch.config.donated_buffer = False
    for network in networks:
        network.compile()
