"""``metrics.csv``: one row per epoch, identical whether or not training was interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from pti.common.tables import read_csv, write_csv
from pti.train.callbacks.batch_values import batch_values
from pti.train.callbacks.loop_state import batches_done, is_last_batch

Row = dict[str, float]


class MetricsCsv(Callback):
    """Write a row per epoch: training metrics averaged over the batches, and the last validation's metrics.

    The averages use the batches of rank 0. A resumed run replaces the rows of the epochs that it repeats.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._sums: dict[str, tuple[Tensor, int]] = {}
        self._validation: Row = {}
        self._path = Path()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the rows that this run wrote before it was interrupted."""
        self._path = Path(trainer.default_root_dir) / "metrics.csv"
        if trainer.is_global_zero and self._path.is_file():
            self.rows = read_metrics(self._path)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add this batch to the means, on the device and without waiting for it."""
        if not trainer.is_global_zero:
            return
        for name, value in batch_values(pl_module).items():
            total, count = self._sums.get(name, (torch.zeros_like(value, dtype=torch.float32), 0))
            self._sums[name] = (total + value, count + 1)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the validation metrics for the epoch's row."""
        if not trainer.sanity_checking:
            metrics = trainer.callback_metrics.items()
            self._validation = {name: float(value) for name, value in metrics if name.startswith("val/")}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the epoch's row."""
        if not trainer.is_global_zero:
            return
        means = {name: float(total) / count for name, (total, count) in self._sums.items()}
        position = {"epoch": float(trainer.current_epoch), "step": float(batches_done(trainer))}
        self.rows = [row for row in self.rows if row["epoch"] < trainer.current_epoch]
        self.rows.append({**position, **means, **self._validation})
        write_metrics(self._path, self.rows)
        if is_last_batch(trainer):
            self._sums, self._validation = {}, {}

    def state_dict(self) -> dict[str, Any]:
        """Return the sums of the unfinished epoch."""
        sums = {name: (float(total), count) for name, (total, count) in self._sums.items()}
        return {"sums": sums, "validation": dict(self._validation)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the unfinished epoch."""
        self._sums = {
            name: (torch.tensor(total), count) for name, (total, count) in state_dict["sums"].items()
        }
        self._validation = dict(state_dict["validation"])


def write_metrics(path: Path, rows: list[Row]) -> None:
    """Write the rows, with a column for every metric of any row; whole numbers have no decimal point."""
    whole = ({name: int(x) if float(x).is_integer() else x for name, x in row.items()} for row in rows)
    write_csv(path, None, whole)


def read_metrics(path: Path) -> list[Row]:
    """Read the rows of a ``metrics.csv``; empty cells are left out."""
    return [{name: float(cell) for name, cell in row.items() if cell} for row in read_csv(path)[1]]
