"""Progress of the whole training, with the time left."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from pti.common.progress import format_duration
from pti.train.callbacks.batch_values import value_shown
from pti.train.callbacks.loop_state import batches_done, batches_of_epoch_done

_SMOOTHING = 0.05  # weight of the newest duration
_WARM_UP = 3  # number of first batches, which are slower than the rest
_SECONDS_BETWEEN_UPDATES = 0.25  # of the bar; reading a metric waits for the device


class TrainingProgress(Callback):
    """Show epoch, batch, a few metrics and the time left until the end of training, validation included.

    A terminal gets one bar; other outputs (a log file, CI) get a line after each epoch and in long epochs.

    Args:
        seconds_between_lines: shortest time between two lines without a terminal.
        metrics: number of metrics to show: the module's training value, then what it logs with ``prog_bar``.
    """

    def __init__(self, seconds_between_lines: float = 15.0, metrics: int = 4) -> None:
        self.seconds_between_lines = seconds_between_lines
        self.metrics = metrics
        self._clock = Clock()
        self._bar: Progress | None = None
        self._shown_at = -math.inf
        self._metrics_shown: dict[str, float] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar."""
        if trainer.is_global_zero and sys.stderr.isatty():
            left = TextColumn("{task.fields[left]}")
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), left)
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.add_task(
                "training", total=total_batches(trainer), completed=batches_done(trainer), left=""
            )
            self._bar.start()
        self._shown_at = time.monotonic()
        self._clock.start()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Resume the clock; it also counts the time to load a batch."""
        self._clock.resume()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance the bar."""
        if trainer.is_global_zero:
            self._clock.end_batch()
            self._show(trainer, at_epoch_end=False)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of validation."""
        self._clock.start()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Show how far validation is; it takes minutes where each image is sampled in many steps."""
        if trainer.is_global_zero and not trainer.sanity_checking:
            self._show_validation(trainer, batch_idx + 1)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the duration of the whole validation."""
        if not trainer.sanity_checking:
            self._clock.end_validation()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print a line per epoch without a terminal."""
        if trainer.is_global_zero:
            self._show(trainer, at_epoch_end=True)
        self._clock.pause()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar."""
        self.on_train_end(trainer, pl_module)

    def _show_validation(self, trainer: Trainer, done: int) -> None:
        total = sum(trainer.num_val_batches)
        self._clock.in_validation(done, total)
        if time.monotonic() - self._shown_at < self._interval:
            return
        counted = f"{done}/{total}" if math.isfinite(total) else f"{done}"
        self._write(trainer, f"{self._epoch(trainer)}  validation {counted}")

    def _show(self, trainer: Trainer, at_epoch_end: bool) -> None:
        interval = self._interval
        if at_epoch_end:
            last = trainer.current_epoch + 1 == trainer.max_epochs
            interval = 0.0 if last or self._bar is not None else interval / 5
        if time.monotonic() - self._shown_at >= interval:
            self._write(trainer, self._describe(trainer), after_batch=not at_epoch_end)

    @property
    def _interval(self) -> float:
        return self.seconds_between_lines if self._bar is None else _SECONDS_BETWEEN_UPDATES

    def _write(self, trainer: Trainer, text: str, after_batch: bool = False) -> None:
        self._shown_at = time.monotonic()
        left = format_left(self._clock.left(trainer, after_batch=after_batch))
        if self._bar is not None:
            task = self._bar.task_ids[0]
            self._bar.update(task, completed=batches_done(trainer), description=text, left=left)
        else:
            print(f"{text}  {left}", file=sys.stderr, flush=True)

    def _epoch(self, trainer: Trainer) -> str:
        epochs = trainer.max_epochs
        return f"epoch {trainer.current_epoch + 1}" + (
            f"/{epochs}" if epochs is not None and epochs > 0 else ""
        )

    def _describe(self, trainer: Trainer) -> str:
        batches = trainer.num_training_batches
        batch = f"{batches_of_epoch_done(trainer)}" + (f"/{batches}" if math.isfinite(batches) else "")
        values = value_shown(trainer.lightning_module) | trainer.progress_bar_metrics
        self._metrics_shown |= {name: float(value) for name, value in values.items()}
        metrics = [f"{name} {value:.4g}" for name, value in list(self._metrics_shown.items())[: self.metrics]]
        return "  ".join([self._epoch(trainer), f"batch {batch}", *metrics])


class Clock:
    """Measure batches and validations, and estimate the time left.

    Attributes:
        batch: smoothed duration of a training batch in seconds.
        validation: smoothed duration of a validation in seconds; None before the first one.
    """

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._paused = False
        self._batches = 0
        self.batch = 0.0
        self.validation: float | None = None
        self._validation_left = 0.0

    def start(self) -> None:
        """Start a measurement."""
        self._since = time.monotonic()

    def pause(self) -> None:
        """Exclude the time until ``resume()`` from the next batch."""
        self._paused = True

    def resume(self) -> None:
        """Start the measurement of a batch after a pause."""
        if self._paused:
            self._paused = False
            self.start()

    def end_batch(self) -> None:
        """Record a batch and start the next one."""
        elapsed = time.monotonic() - self._since
        weight = max(_SMOOTHING, 1 / max(1, self._batches - _WARM_UP + 1))
        self.batch += weight * (elapsed - self.batch)  # the weight is 1 during the warm-up
        self._batches += 1
        self.start()

    def in_validation(self, done: int, total: float) -> None:
        """Record the batches of the validation that is running; ``total`` may be infinite."""
        elapsed = time.monotonic() - self._since
        self._validation_left = elapsed / done * (total - done) if math.isfinite(total) else 0.0

    def end_validation(self) -> None:
        """Record a validation."""
        self._validation_left = 0.0
        elapsed = time.monotonic() - self._since
        self.validation = elapsed if self.validation is None else (self.validation + elapsed) / 2
        self.pause()

    def left(self, trainer: Trainer, from_start: bool = False, after_batch: bool = False) -> float | None:
        """Return the estimated seconds until training ends; None if nothing limits it.

        Args:
            trainer: The trainer.
            from_start: Return those of the whole training.
            after_batch: The validation that is due after this batch has not begun.
        """
        total = total_batches(trainer)
        if total is None or not self._batches:
            return None
        done = 0 if from_start else min(total, batches_done(trainer))
        validations = _validations_until(trainer, total) - _validations_until(trainer, done - after_batch)
        later = validations * self._validation_seconds(trainer)
        return (total - done) * self.batch + self._validation_left + later

    def _validation_seconds(self, trainer: Trainer) -> float:
        if self.validation is not None:
            return self.validation
        batches = sum(trainer.num_val_batches) if trainer.num_val_batches else 0
        return batches * self.batch / 2 if math.isfinite(batches) else 0.0  # no backward pass


def _validations_until(trainer: Trainer, batches: int) -> int:
    """Return how many validations follow the first batches of a training."""
    interval = trainer.val_check_batch
    if not trainer.enable_validation or interval is None or not math.isfinite(interval):
        return 0
    return batches // max(1, int(interval) * (trainer.check_val_every_n_epoch or 1))


def total_batches(trainer: Trainer) -> int | None:
    """Return the number of batches of the whole training on each rank; None if nothing limits it."""
    limits = []
    epochs, batches = trainer.max_epochs, trainer.num_training_batches
    if epochs is not None and epochs >= 0 and math.isfinite(batches):
        limits.append(epochs * int(batches))
    if trainer.max_steps >= 0:
        accumulate = getattr(trainer.lightning_module, "accumulate_grad_batches", 1)
        limits.append(trainer.max_steps * accumulate)
    return min(limits, default=None)


def format_left(seconds: float | None) -> str:
    """Format the time left, such as ``3 min 20 s left``; empty if it is unknown."""
    return "" if seconds is None else f"{format_duration(seconds)} left"
