"""``metrics.csv``: one row an epoch, the same whether training was interrupted or not."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from pti.common.files import write_text_atomically
from pti.train.callbacks.loop_state import batches_done, is_last_batch

Row = dict[str, float]
_FIRST = ("epoch", "step")


class MetricsCsv(Callback):
    """Writes for each epoch the means of what was logged at every batch, and the last validation's figures.

    Rank 0's batches stand for the others' in the means of training. A resumed run drops the rows of epochs
    that it trains anew.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._sums: dict[str, tuple[Tensor, int]] = {}
        self._validation: Row = {}
        self._path = Path()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reads what this run has written before it was interrupted."""
        self._path = Path(trainer.default_root_dir) / "metrics.csv"
        if trainer.is_global_zero and self._path.is_file():
            self.rows = [row for row in read_metrics(self._path) if row["epoch"] < trainer.current_epoch]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Adds this batch to the means, on the device, without waiting for it."""
        if not trainer.is_global_zero:
            return
        for name, value in trainer.callback_metrics.items():
            if name.startswith("train/"):
                total, count = self._sums.get(name, (torch.zeros_like(value, dtype=torch.float32), 0))
                self._sums[name] = (total + value.detach(), count + 1)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the figures for the epoch's row."""
        if not trainer.sanity_checking:
            metrics = trainer.callback_metrics.items()
            self._validation = {name: float(value) for name, value in metrics if name.startswith("val/")}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the epoch's row."""
        if not trainer.is_global_zero:
            return
        means = {name: float(total) / count for name, (total, count) in self._sums.items()}
        place = {"epoch": float(trainer.current_epoch), "step": float(batches_done(trainer))}
        self.rows = [row for row in self.rows if row["epoch"] < trainer.current_epoch]
        self.rows.append({**place, **means, **self._validation})
        write_metrics(self._path, self.rows)
        if is_last_batch(trainer):
            self._sums, self._validation = {}, {}

    def state_dict(self) -> dict[str, Any]:
        """The unfinished epoch's sums."""
        sums = {name: (float(total), count) for name, (total, count) in self._sums.items()}
        return {"sums": sums, "validation": dict(self._validation)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on with the unfinished epoch."""
        self._sums = {
            name: (torch.tensor(total), count) for name, (total, count) in state_dict["sums"].items()
        }
        self._validation = dict(state_dict["validation"])


def write_metrics(path: Path, rows: list[Row]) -> None:
    """Write the rows; a column for every metric that any of them has."""
    columns = dict.fromkeys(name for row in rows for name in row)
    names = [*_FIRST, *(name for name in columns if name not in _FIRST)]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _number(value) for name, value in row.items()} for row in rows)
    write_text_atomically(path, text.getvalue())


def read_metrics(path: Path) -> list[Row]:
    """The rows of a ``metrics.csv``; a cell without a number is left out."""
    with open(path, newline="", encoding="utf-8") as file:
        return [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]


def _number(value: float) -> str:
    return str(int(value)) if math.isfinite(value) and value == int(value) else repr(value)
