"""Values of a training batch, as callbacks use them.

Lightning's ``callback_metrics`` read every value of the progress bar, which waits for the device.
"""

from __future__ import annotations

from lightning.pytorch import LightningModule
from torch import Tensor

from pti.modules.manual_optimization import ManualOptimization


def batch_values(module: LightningModule) -> dict[str, Tensor]:
    """Return the values of the last batch as ``train/NAME``, scalars on the device."""
    values = module.batch_values if isinstance(module, ManualOptimization) else {}
    return {f"train/{name}": value for name, value in values.items()}


def value_shown(module: LightningModule) -> dict[str, Tensor]:
    """Return the value of the last batch that a progress bar shows, by its name."""
    name = f"train/{module.value_shown}" if isinstance(module, ManualOptimization) else ""
    return {key: value for key, value in batch_values(module).items() if key == name}
