"""A callback that shows what a training uses."""

from typing import Any

from lightning import Callback

SEEN: dict[str, Any] = {}
"""Of the last batch: ``module``, ``groups`` (parameter groups, one for each optimizer) and ``precision``."""


class Recorder(Callback):
    """Keep the module of a training and what its optimizers use."""

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        groups = [dict(optimizer.param_groups[0]) for optimizer in trainer.optimizers]
        SEEN.update(module=pl_module, groups=groups, precision=trainer.precision)
