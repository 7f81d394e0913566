"""Checkpoint schedule, and stopping of all ranks at the same batch."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

import pti.train.callbacks.loop_state as loop_state
from pti.common.errors import DataError, UsageError
from pti.train.callbacks.checkpoint_io import require_writable
from pti.train.callbacks.collapse import CollapseCheck
from pti.train.callbacks.consensus import RankConsensus
from pti.train.callbacks.finite import first_not_finite, not_finite_error, weights_are_finite
from pti.train.callbacks.loop_state import SavePoint, batches_done, is_last_batch, validation_follows
from pti.train.callbacks.stopping import Interrupted, StopSignals


class Checkpointer(Checkpoint):
    """Write ``checkpoints/last.ckpt``, ``best.ckpt`` and ``epoch=…-step=….ckpt``; stop training on a signal.

    ``last.ckpt`` is written whatever the metrics are, ``best.ckpt`` when the monitored metric improves to a
    finite value. Of several metrics, the first one that is finite is monitored. A model at the baseline of
    the `CollapseCheck` never replaces one that has left it, and any such model replaces it, whatever their
    metrics. After every batch the ranks agree whether to save, to stop, or to fail on a loss of NaN.

    Args:
        monitor: logged metric that selects best.ckpt, or several; None writes no best.ckpt.
        mode: ``min`` or ``max``: whether lower or higher values of the monitored metric are better.
        every_n_epochs: interval of last.ckpt in epochs; the end of training is always saved.
        every_n_minutes: additional interval within epochs in minutes; None = none.
        every_n_steps: additional interval within epochs in batches; None = none.
        keep_every_n_epochs: interval of the permanent copies ``epoch=…`` in epochs; None = no copies.
        patience: validations in succession without a better best.ckpt that end the training; None = no end.

    Attributes:
        signals: source of stop signals; set by the run.
        collapse: check for a collapsed model, which may end the run; set by the run.
        provenance: entries added to every checkpoint (configuration, versions); set by the run.
        best: epoch, step and metrics of the best validation so far, its ``monitor`` value, the number of that
            metric in ``monitor`` (``monitored``), and whether it was ``at_baseline``.
    """

    def __init__(
        self,
        monitor: str | Sequence[str] | None = None,
        mode: str = "min",
        every_n_epochs: int = 1,
        every_n_minutes: float | None = None,
        every_n_steps: int | None = None,
        keep_every_n_epochs: int | None = None,
        patience: int | None = None,
    ) -> None:
        if mode not in ("min", "max"):
            raise UsageError(f"callbacks.checkpointer.mode={mode}: expected min or max.")
        if patience is not None and (patience < 1 or monitor is None):
            expected = "a metric in callbacks.checkpointer.monitor" if patience > 0 else "1 or more"
            raise UsageError(f"callbacks.checkpointer.patience={patience}: expected {expected}.")
        self.monitor = (monitor,) if isinstance(monitor, str) else tuple(monitor or ())
        self.patience = patience
        self.mode = mode
        self.every_n_epochs = every_n_epochs
        self.every_n_minutes = every_n_minutes
        self.every_n_steps = every_n_steps
        self.keep_every_n_epochs = keep_every_n_epochs
        self.signals = StopSignals()
        self.collapse: CollapseCheck | None = None
        self.provenance: dict[str, Any] = {}
        self.best: dict[str, float] = {}
        self._without_improvement = 0
        self._folder = Path()
        self._consensus = RankConsensus()
        self._save_point = SavePoint.BATCH_END
        self._resumed_from: SavePoint | None = None
        self._save_at_epoch_end = False
        self._saved_at = time.monotonic()
        self._common_validation_batches = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Fail before the first step if checkpoints cannot be written."""
        self._folder = Path(trainer.default_root_dir) / "checkpoints"
        if trainer.is_global_zero:
            require_writable(self._folder)
        self._consensus.open()

    # Lightning installs a SIGTERM handler just before these two hooks; under DDP its handler hangs.
    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hold signals from now on."""
        self.signals.hold()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hold signals; begin a new epoch after a checkpoint from the end of one."""
        self.signals.hold()
        self._saved_at = time.monotonic()
        loop_state.continue_after(self._resumed_from, trainer)
        self._stop_if_patience_ends(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Agree with the other ranks on what follows this batch, and do it."""
        bad_loss = first_not_finite(trainer, outputs)
        due = trainer.is_global_zero and self._is_due(trainer)
        stop, save, fail = self._consensus.maximum(self.signals.received, due, bad_loss is not None)
        if fail:
            bad_losses = dict(enumerate(self._consensus.gather(bad_loss)))
            ranks = [rank for rank, name in bad_losses.items() if name]
            raise self._not_finite(str(bad_losses[ranks[0]]), trainer, ranks)
        if not (stop or save):
            return
        if validation_follows(trainer):
            self._save(trainer, "last", SavePoint.VALIDATION_DUE)
        elif is_last_batch(trainer):
            self._save_at_epoch_end = True
            return
        else:
            self._save(trainer, "last", SavePoint.BATCH_END)
        if stop:
            raise Interrupted(int(stop))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the batches that all ranks have: the ranks can agree after these only."""
        batches = trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches
        self._common_validation_batches = int(self._consensus.minimum(batches[0] if batches else 0))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """End validation on a signal; a resumed run repeats it."""
        if dataloader_idx > 0 or batch_idx >= self._common_validation_batches:
            return
        (stop,) = self._consensus.maximum(self.signals.received)
        if stop:
            if not trainer.sanity_checking:
                self._save(trainer, "last", SavePoint.VALIDATION_DUE)
            raise Interrupted(int(stop))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write best.ckpt if the model has improved; end the run if it has collapsed."""
        if trainer.sanity_checking:
            return
        if self.monitor:
            self._save_best(trainer)
            self._stop_if_patience_ends(trainer)
        if self.collapse is not None and self.collapse.stops:
            trainer.should_stop = True  # on_train_epoch_end saves the state and raises the error

    def _save_best(self, trainer: Trainer) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if not set(self.monitor) & set(metrics):
            raise UsageError(
                f"callbacks.checkpointer.monitor={', '.join(self.monitor)}: this metric is never logged. "
                f"Logged metrics: {', '.join(sorted(metrics)) or 'none'}."
            )
        metrics = self._consensus.gather(metrics)[0]
        values = [metrics.get(name, math.nan) for name in self.monitor]
        monitored = next((number for number, value in enumerate(values) if math.isfinite(value)), 0)
        at_baseline = self.collapse is not None and self.collapse.at_baseline
        self._without_improvement += 1
        if replaces(values[monitored], at_baseline, self.best, self.mode, monitored):
            validation = {name: value for name, value in metrics.items() if name.startswith("val/")}
            self.best = {"epoch": trainer.current_epoch, "step": batches_done(trainer), **validation}
            self.best |= {"monitor": values[monitored], "monitored": monitored, "at_baseline": at_baseline}
            self._without_improvement = 0
            self._save(trainer, "best", SavePoint.VALIDATION_END)

    def _stop_if_patience_ends(self, trainer: Trainer) -> None:
        if self.patience is None or self._without_improvement < self.patience:
            return
        trainer.should_stop = True
        if trainer.is_global_zero:
            best = (
                f"better than that of epoch {self.best['epoch'] + 1}" if self.best else "with a finite metric"
            )
            print(f"Training ends: none of the last {self._without_improvement} validations is {best}.")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write last.ckpt and the permanent copy; stop if a signal was received."""
        (stop,) = self._consensus.maximum(self.signals.received)
        epoch = trainer.current_epoch + 1
        ends = trainer.should_stop or not is_last_batch(trainer) or epoch == trainer.max_epochs
        keep = self.keep_every_n_epochs and epoch % self.keep_every_n_epochs == 0
        if stop or ends or keep or self._save_at_epoch_end or epoch % self.every_n_epochs == 0:
            self._save_at_epoch_end = False
            self._save(trainer, "last", SavePoint.EPOCH_END)
        if keep and trainer.is_global_zero:
            copy = self._folder / f"epoch={epoch:04d}-step={batches_done(trainer)}.ckpt"
            temporary = copy.with_name(f".{copy.name}.tmp")
            shutil.copyfile(self._folder / "last.ckpt", temporary)
            temporary.replace(copy)
        if stop:
            raise Interrupted(int(stop))
        if self.collapse is not None and self.collapse.stops:
            raise self.collapse.error(trainer.global_step)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Make the checkpoint self-contained and correct Lightning's counters in it."""
        loop_state.set_save_point(checkpoint["loops"], self._save_point, trainer)
        checkpoint.update(self.provenance)
        checkpoint["data_fingerprint"] = getattr(trainer.datamodule, "fingerprint", None)  # type: ignore[attr-defined]
        checkpoint["moment"] = self._save_point.value
        checkpoint["batches_done"] = batches_done(trainer)
        checkpoint["world_size"] = trainer.world_size

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember at which place in the loop the checkpoint was written."""
        self._resumed_from = SavePoint(checkpoint["moment"])

    def state_dict(self) -> dict[str, Any]:
        """Return the best validation so far."""
        return {"best": dict(self.best), "without_improvement": self._without_improvement}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best validation so far, provided that this run has its best.ckpt."""
        if (self._folder / "best.ckpt").is_file():
            self.best = dict(state_dict["best"])
            self._without_improvement = state_dict.get("without_improvement", 0)

    def _not_finite(self, what: str, trainer: Trainer, ranks: list[int]) -> DataError:
        return not_finite_error(what, batches_done(trainer), ranks, self.provenance.get("config", {}))

    def _is_due(self, trainer: Trainer) -> bool:
        if self.every_n_steps and batches_done(trainer) % self.every_n_steps == 0:
            return True
        elapsed = time.monotonic() - self._saved_at
        return self.every_n_minutes is not None and elapsed >= 60 * self.every_n_minutes

    def _save(self, trainer: Trainer, name: str, save_point: SavePoint) -> None:
        if not self._consensus.minimum(weights_are_finite(trainer.lightning_module)):
            raise self._not_finite("A weight", trainer, [trainer.global_rank])
        self._save_point = save_point
        previous = {"previous": self._folder / "last-1.ckpt"} if name == "last" else None
        trainer.save_checkpoint(self._folder / f"{name}.ckpt", storage_options=previous)
        if name == "last":
            self._saved_at = time.monotonic()


def replaces(value: float, at_baseline: bool, best: Mapping[str, Any], mode: str, monitored: int = 0) -> bool:
    """Return whether a validation replaces the best one so far, from which ``best`` is empty at first.

    Args:
        value: the monitored metric.
        at_baseline: whether the model has learned nothing: it never replaces one that has, and is always
            replaced by such a model.
        best: ``monitor``, ``monitored`` and ``at_baseline`` of the best validation so far.
        mode: see `improves`.
        monitored: number of the metric; the lower one counts where two validations have different ones.
    """
    was_at_baseline = best.get("at_baseline", not best)
    if at_baseline != was_at_baseline:
        return was_at_baseline and improves(value, None, mode)
    rival = best.get("monitor") if monitored == best.get("monitored", 0) else None
    return monitored <= best.get("monitored", monitored) and improves(value, rival, mode)


def improves(value: float, best: float | None, mode: str) -> bool:
    """Return whether a metric is finite and better than the best one so far.

    Args:
        value: the new value.
        best: the best value so far, if any.
        mode: ``min`` or ``max``: whether lower or higher values are better.
    """
    if not math.isfinite(value):
        return False
    return best is None or (value < best if mode == "min" else value > best)
