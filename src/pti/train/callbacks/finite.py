"""Detection of losses and weights that are NaN or infinite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from pti.common.errors import DataError
from pti.modules.optimization import grad_scaler
from pti.train.callbacks.batch_values import batch_values


def first_not_finite(trainer: Trainer, outputs: Any) -> str | None:
    """Return the name of a loss of this batch that is NaN or infinite, or None.

    Reading a loss waits for an accelerator; there the losses are checked only when metrics are logged. In
    fp16, the scaler skips the step of such a batch and halves the scale of the loss; a loss that is still not
    finite at a scale below 1 has not overflowed because of it.
    """
    interval = max(1, getattr(trainer, "log_every_n_steps", 1))
    if trainer.strategy.root_device.type != "cpu" and trainer.global_step % interval:
        return None
    scaler = grad_scaler(trainer.lightning_module)
    if scaler is not None and scaler.get_scale() >= 1:
        return None
    losses = {"loss": outputs} if isinstance(outputs, Tensor) else {}
    losses |= outputs if isinstance(outputs, Mapping) else {}
    losses |= batch_values(trainer.lightning_module)
    finite = {
        name: torch.isfinite(value.detach()).all()
        for name, value in losses.items()
        if isinstance(value, Tensor) and value.is_floating_point()
    }
    flags = torch.stack(list(finite.values())).tolist() if finite else []  # waits for the device once
    return next((name for name, fine in zip(finite, flags, strict=True) if not fine), None)


def weights_are_finite(module: LightningModule) -> bool:
    """Return whether every weight is finite."""
    checks = [torch.isfinite(weight.detach()).all() for weight in module.parameters()]
    return not checks or bool(torch.stack(checks).all())


def not_finite_error(what: str, step: int, ranks: list[int], config: Mapping[str, Any]) -> DataError:
    """Build the error for training that has diverged.

    Args:
        what: the loss, or "A weight".
        step: number of training batches done.
        ranks: the ranks that found it.
        config: the run's configuration, whose keys the message names.
    """
    model, precision = config.get("model", {}), config.get("trainer", {}).get("precision")
    rates = ", ".join(f"model.{key}.lr" for key in model if key.endswith("optimizer"))
    rate = "the learning rate" if rates.count(".lr") == 1 else "the learning rates"
    exact = "" if precision == "32-true" else ", or avoid 16-bit floats (trainer.precision=32-true)"
    where = f" on rank {', '.join(map(str, ranks))}" if ranks != [0] else ""
    return DataError(
        f"{what} is not finite after batch {step}{where}; this state was not saved. "
        f"Lower {rate} ({rates}) or clip the gradients more (model.gradient_clip_val={_clip(model)}){exact}; "
        "ckpt_path=last allow_config_changes=true continues from the last good state with these settings. "
        "`python -m pti.check` finds bad images."
    )


def _clip(model: Mapping[str, Any]) -> float:
    """Suggest a gradient norm below the present one."""
    return min(1.0, (model.get("gradient_clip_val") or 10.0) / 10)
