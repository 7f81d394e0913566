"""Notices losses and weights that are no numbers any more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from pti.common.errors import DataError


def first_not_finite(trainer: Trainer, outputs: Any) -> str | None:
    """The name of a loss of this batch that is NaN or infinite; None if there is none, or none was looked
    for.

    On an accelerator the look waits for the device, so there it happens only when metrics are logged.
    """
    every = max(1, getattr(trainer, "log_every_n_steps", 1))
    if trainer.strategy.root_device.type != "cpu" and trainer.global_step % every:
        return None
    found = {"loss": outputs} if isinstance(outputs, Tensor) else {}
    found |= outputs if isinstance(outputs, Mapping) else {}
    found |= trainer.callback_metrics
    tensors = {
        name: value
        for name, value in found.items()
        if isinstance(value, Tensor) and value.is_floating_point() and not name.startswith("val/")
    }
    if not tensors:
        return None
    finite = torch.stack([torch.isfinite(value.detach()).all() for value in tensors.values()]).tolist()
    return next((name for name, fine in zip(tensors, finite, strict=True) if not fine), None)


def weights_are_finite(module: LightningModule) -> bool:
    """Whether every weight is a finite number."""
    checks = [torch.isfinite(weight.detach()).all() for weight in module.parameters()]
    return not checks or bool(torch.stack(checks).all())


def not_finite_error(what: str, step: int, ranks: list[int]) -> DataError:
    """The message for training that has diverged."""
    where = f" on rank {', '.join(map(str, ranks))}" if ranks != [0] else ""
    return DataError(
        f"{what} is no finite number any more after batch {step}{where}; no checkpoint was written of this. "
        "Lower the learning rates (model.generator_optimizer.lr, model.discriminator_optimizer.lr), clip the "
        "gradients (model.gradient_clip_val=1), or leave 16-bit floats (trainer.precision=bf16-mixed or "
        "32-true); ckpt_path=last goes on from the last good state. `python -m pti.check` finds bad images."
    )
