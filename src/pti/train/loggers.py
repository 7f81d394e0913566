"""TensorBoard with one point a step in every curve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger


class TensorBoard(TensorBoardLogger):
    """Lightning's, without the second ``epoch`` that it logs when training and validation log at one step."""

    _epoch_logged_at = -1

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write scalars of a step."""
        found: dict[str, Any] = dict(metrics)
        if step is not None and step <= self._epoch_logged_at:
            found.pop("epoch", None)
        elif step is not None:
            self._epoch_logged_at = step
        super().log_metrics(found, step)
