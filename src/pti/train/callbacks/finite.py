"""Detection of losses and weights that are NaN or infinite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from pti.common.errors import DataError


def first_not_finite(trainer: Trainer, outputs: Any) -> str | None:
    """Return the name of a loss of this batch that is NaN or infinite, or None.

    Reading a loss waits for an accelerator; there the losses are checked only when metrics are logged.
    """
    interval = max(1, getattr(trainer, "log_every_n_steps", 1))
    if trainer.strategy.root_device.type != "cpu" and trainer.global_step % interval:
        return None
    losses = {"loss": outputs} if isinstance(outputs, Tensor) else {}
    losses |= outputs if isinstance(outputs, Mapping) else {}
    losses |= trainer.callback_metrics
    finite = {
        name: torch.isfinite(value.detach()).all()
        for name, value in losses.items()
        if isinstance(value, Tensor) and value.is_floating_point() and not name.startswith("val/")
    }
    flags = torch.stack(list(finite.values())).tolist() if finite else []  # waits for the device once
    return next((name for name, fine in zip(finite, flags, strict=True) if not fine), None)


def weights_are_finite(module: LightningModule) -> bool:
    """Return whether every weight is finite."""
    checks = [torch.isfinite(weight.detach()).all() for weight in module.parameters()]
    return not checks or bool(torch.stack(checks).all())


def not_finite_error(what: str, step: int, ranks: list[int]) -> DataError:
    """Build the error for training that has diverged.

    Args:
        what: the loss, or "A weight".
        step: number of training batches done.
        ranks: the ranks that found it.
    """
    where = f" on rank {', '.join(map(str, ranks))}" if ranks != [0] else ""
    return DataError(
        f"{what} is not finite after batch {step}{where}; this state was not saved. "
        "Lower the learning rates (model.generator_optimizer.lr, model.discriminator_optimizer.lr), clip the "
        "gradients (model.gradient_clip_val=1), or avoid 16-bit floats (trainer.precision=bf16-mixed or "
        "32-true); ckpt_path=last continues from the last good state. `python -m pti.check` finds bad images."
    )
