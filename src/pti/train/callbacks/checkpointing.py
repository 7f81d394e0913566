"""When checkpoints are written, and how training stops on all ranks at once."""

from __future__ import annotations

import math
import shutil
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from pti.common.errors import UsageError
from pti.train.callbacks.agreement import RankConsensus
from pti.train.callbacks.checkpoint_io import require_writable
from pti.train.callbacks.finite import first_not_finite, not_finite_error, weights_are_finite
from pti.train.callbacks.loop_state import (
    SavePoint,
    batches_done,
    epoch_is_complete,
    is_last_batch,
    set_save_point,
    start_new_epoch,
    validation_follows,
)
from pti.train.callbacks.stopping import Interrupted, StopSignals


class Checkpointer(Checkpoint):
    """Writes ``checkpoints/last.ckpt``, ``best.ckpt`` and ``epoch=…-step=….ckpt``; ends training on a signal.

    ``last.ckpt`` is written whatever the metrics say, ``best.ckpt`` when the monitored one improves to a
    finite value. After every batch the ranks agree on whether to save, to stop, or to give up because a loss
    is NaN.

    Args:
        monitor: the logged metric that ``best.ckpt`` follows; null = no best.ckpt.
        mode: ``min`` or ``max``: which way the monitored metric is better.
        every_n_epochs: how often last.ckpt is written; the end of training always is.
        every_n_minutes: additionally inside epochs, by the clock; null = no.
        every_n_steps: additionally every so many batches; null = no.
        keep_every_n_epochs: keep an ``epoch=…`` copy that often; null = none.
    """

    def __init__(
        self,
        monitor: str | None = None,
        mode: str = "min",
        every_n_epochs: int = 1,
        every_n_minutes: float | None = None,
        every_n_steps: int | None = None,
        keep_every_n_epochs: int | None = None,
    ) -> None:
        if mode not in ("min", "max"):
            raise UsageError(f"callbacks.checkpointer.mode={mode}: expected min or max.")
        self.monitor = monitor
        self.mode = mode
        self.every_n_epochs = every_n_epochs
        self.every_n_minutes = every_n_minutes
        self.every_n_steps = every_n_steps
        self.keep_every_n_epochs = keep_every_n_epochs
        self.signals = StopSignals()
        self.provenance: dict[str, Any] = {}
        self.folder = Path()
        self.best: dict[str, float] = {}
        self._agreement = RankConsensus()
        self._moment = SavePoint.BATCH_END
        self._resumed_from: SavePoint | None = None
        self._owed = False
        self._saved_at = time.monotonic()
        self._validation_batches = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Fails before the first step when nothing can be written."""
        self.folder = Path(trainer.default_root_dir) / "checkpoints"
        if trainer.is_global_zero:
            require_writable(self.folder)
        self._agreement.open()

    # Lightning takes the SIGTERM handler just before these two, and its own hangs under DDP.
    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Signals are noted from here on."""
        self.signals.hold()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Signals are noted from here on; a checkpoint from the end of an epoch begins the next."""
        self.signals.hold()
        self._saved_at = time.monotonic()
        if self._resumed_from is SavePoint.EPOCH_END and epoch_is_complete(trainer):
            start_new_epoch(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Agrees with the other ranks on what to do after this batch, and does it."""
        broken = first_not_finite(trainer, outputs)
        due = trainer.is_global_zero and self._is_due(trainer)
        stop, save, wrong = self._agreement.maximum(self.signals.received, due, broken is not None)
        if wrong:
            found = self._agreement.gather(broken)
            ranks = [rank for rank, name in enumerate(found) if name]
            raise not_finite_error(str(found[ranks[0]]), batches_done(trainer), ranks)
        if not (stop or save):
            return
        if validation_follows(trainer):
            self._save(trainer, "last", SavePoint.VALIDATION_DUE)
        elif is_last_batch(trainer):
            self._owed = True  # the end of the epoch follows at once
            return
        else:
            self._save(trainer, "last", SavePoint.BATCH_END)
        if stop:
            raise Interrupted(int(stop))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ranks may have different numbers of batches; they can agree on the common ones only."""
        batches = trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches
        self._validation_batches = int(self._agreement.minimum(batches[0] if batches else 0))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """A signal ends validation; it is run anew when training goes on."""
        if dataloader_idx > 0 or batch_idx >= self._validation_batches:
            return
        (stop,) = self._agreement.maximum(self.signals.received)
        if stop:
            if not trainer.sanity_checking:
                self._save(trainer, "last", SavePoint.VALIDATION_DUE)
            raise Interrupted(int(stop))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes best.ckpt when the monitored metric has improved."""
        if trainer.sanity_checking or self.monitor is None:
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if self.monitor not in metrics:
            raise UsageError(
                f"callbacks.checkpointer.monitor={self.monitor}: this metric is never logged. "
                f"Logged are: {', '.join(sorted(metrics)) or 'none'}."
            )
        metrics = self._agreement.gather(metrics)[0]
        if self._improves(metrics[self.monitor]):
            validated = {name: value for name, value in metrics.items() if name.startswith("val/")}
            self.best = {"epoch": trainer.current_epoch, "step": batches_done(trainer), **validated}
            self.best["monitor"] = metrics[self.monitor]
            self._save(trainer, "best", SavePoint.VALIDATION_END)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes last.ckpt and what is kept; stops if a signal came."""
        (stop,) = self._agreement.maximum(self.signals.received)
        epoch = trainer.current_epoch + 1
        ends = trainer.should_stop or not is_last_batch(trainer) or epoch == trainer.max_epochs
        keep = self.keep_every_n_epochs and epoch % self.keep_every_n_epochs == 0
        if stop or ends or keep or self._owed or epoch % self.every_n_epochs == 0:
            self._owed = False
            self._save(trainer, "last", SavePoint.EPOCH_END)
        if keep and trainer.is_global_zero:
            kept = self.folder / f"epoch={epoch:04d}-step={batches_done(trainer)}.ckpt"
            shutil.copyfile(self.folder / "last.ckpt", self.folder / f".{kept.name}.tmp")
            (self.folder / f".{kept.name}.tmp").replace(kept)
        if stop:
            raise Interrupted(int(stop))

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds what makes the checkpoint self-contained, and sets Lightning's counters right."""
        set_save_point(checkpoint["loops"], self._moment, trainer)
        checkpoint.update(self.provenance)
        checkpoint["data_fingerprint"] = getattr(trainer.datamodule, "fingerprint", None)  # type: ignore[attr-defined]
        checkpoint["moment"] = self._moment.value
        checkpoint["batches_done"] = batches_done(trainer)
        checkpoint["world_size"] = trainer.world_size

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Notes where the checkpoint stands."""
        self._resumed_from = SavePoint(checkpoint["moment"])

    def state_dict(self) -> dict[str, Any]:
        """The best validation so far."""
        return {"best": dict(self.best)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on comparing with the best so far, if this run has its file."""
        if (self.folder / "best.ckpt").is_file():
            self.best = dict(state_dict["best"])

    def _is_due(self, trainer: Trainer) -> bool:
        if self.every_n_steps and batches_done(trainer) % self.every_n_steps == 0:
            return True
        elapsed = time.monotonic() - self._saved_at
        return self.every_n_minutes is not None and elapsed >= 60 * self.every_n_minutes

    def _improves(self, value: float) -> bool:
        if not math.isfinite(value):
            return False
        best = self.best.get("monitor")
        return best is None or (value < best if self.mode == "min" else value > best)

    def _save(self, trainer: Trainer, name: str, moment: SavePoint) -> None:
        module = trainer.lightning_module
        if not self._agreement.minimum(weights_are_finite(module)):
            raise not_finite_error("A weight", batches_done(trainer), [trainer.global_rank])
        self._moment = moment
        previous = {"previous": self.folder / "last-1.ckpt"} if name == "last" else None
        trainer.save_checkpoint(self.folder / f"{name}.ckpt", storage_options=previous)
        if name == "last":
            self._saved_at = time.monotonic()
