"""TensorBoard logger with one point per step in every curve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger


class TensorBoard(TensorBoardLogger):
    """Drop the second ``epoch`` value that Lightning logs when training and validation log at one step."""

    _epoch_logged_at = -1

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write the scalars of a step."""
        scalars: dict[str, Any] = dict(metrics)
        if step is not None and step <= self._epoch_logged_at:
            scalars.pop("epoch", None)
        elif step is not None:
            self._epoch_logged_at = step
        super().log_metrics(scalars, step)
