"""One bar over the whole training, with the time that it will still take."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from pti.common.progress import format_duration
from pti.train.callbacks.loop_state import batches_done, batches_of_epoch_done

_SMOOTHING = 0.05  # weight of the newest duration
_WARM_UP = 3  # the first batches are slower than the rest


class TrainingProgress(Callback):
    """Shows epoch, step, a few metrics and the time left for all epochs, validation included.

    On a terminal this is one bar; elsewhere (a log file, CI) a line after each epoch, and inside long epochs.

    Args:
        seconds_between_lines: at least so long between two lines, where there is no terminal.
        metrics: how many of the metrics that the module wants shown.
    """

    def __init__(self, seconds_between_lines: float = 15.0, metrics: int = 4) -> None:
        self.seconds_between_lines = seconds_between_lines
        self.metrics = metrics
        self._clock = Clock()
        self._bar: Progress | None = None
        self._last_line = -math.inf
        self._shown: dict[str, float] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the bar."""
        if trainer.is_global_zero and sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[left]}"),
            )
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.add_task(
                "training", total=total_batches(trainer), completed=batches_done(trainer), left=""
            )
            self._bar.start()
        self._last_line = time.monotonic()
        self._clock.start()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Loading the batch counts as training."""
        self._clock.resume_training()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Moves the bar."""
        if trainer.is_global_zero:
            self._clock.trained()
            self._show(trainer, at_epoch_end=False)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on the clock counts validation."""
        self._clock.start()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validation is timed as a whole."""
        if not trainer.sanity_checking:
            self._clock.validated()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A line an epoch where there is no terminal."""
        if trainer.is_global_zero:
            self._show(trainer, at_epoch_end=True)
        self._clock.pause()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Closes the bar."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Closes the bar."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _show(self, trainer: Trainer, at_epoch_end: bool) -> None:
        now = time.monotonic()
        # Reading a metric waits for the device: with a bar four times a second at most.
        pause = 0.25 if self._bar is not None else self.seconds_between_lines
        if now - self._last_line < pause and not (at_epoch_end and self._worth_a_line(trainer, now)):
            return
        self._last_line = now
        text, left = self._describe(trainer), format_left(self._clock.left(trainer))
        if self._bar is not None:
            self._bar.update(
                self._bar.task_ids[0], completed=batches_done(trainer), description=text, left=left
            )
        else:
            print(f"{text}  {left}", file=sys.stderr, flush=True)

    def _worth_a_line(self, trainer: Trainer, now: float) -> bool:
        last = trainer.current_epoch + 1 == trainer.max_epochs
        return self._bar is not None or last or now - self._last_line >= self.seconds_between_lines / 5

    def _describe(self, trainer: Trainer) -> str:
        epochs = trainer.max_epochs
        of = f"/{epochs}" if epochs is not None and epochs > 0 else ""
        batches = trainer.num_training_batches
        step = f"{batches_of_epoch_done(trainer)}" + (f"/{batches}" if math.isfinite(batches) else "")
        self._shown |= {name: float(value) for name, value in trainer.progress_bar_metrics.items()}
        shown = "  ".join(f"{name} {value:.4g}" for name, value in list(self._shown.items())[: self.metrics])
        return f"epoch {trainer.current_epoch + 1}{of}  batch {step}  {shown}".rstrip()


class Clock:
    """How long a training batch and a validation take, and so how long the rest of training will."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._paused = False
        self._batches = 0
        self.batch = 0.0
        self.validation: float | None = None

    def start(self) -> None:
        """Start timing anew."""
        self._since = time.monotonic()

    def pause(self) -> None:
        """What comes now is no batch."""
        self._paused = True

    def resume_training(self) -> None:
        """After a pause the next batch is timed from here."""
        if self._paused:
            self._paused = False
            self.start()

    def trained(self) -> None:
        """A batch is done."""
        elapsed, weight = (
            time.monotonic() - self._since,
            max(_SMOOTHING, 1 / max(1, self._batches - _WARM_UP + 1)),
        )
        self.batch = elapsed if self._batches < _WARM_UP else self.batch + weight * (elapsed - self.batch)
        self._batches += 1
        self.start()

    def validated(self) -> None:
        """A validation is done."""
        elapsed = time.monotonic() - self._since
        self.validation = elapsed if self.validation is None else (self.validation + elapsed) / 2
        self.pause()

    def left(self, trainer: Trainer) -> float | None:
        """Seconds until training ends; None when nothing limits it."""
        total = total_batches(trainer)
        if total is None or not self._batches:
            return None
        missing = max(0, total - batches_done(trainer))
        return missing * self.batch + self._validations_left(trainer, missing) * self._per_validation(trainer)

    def _per_validation(self, trainer: Trainer) -> float:
        if self.validation is not None:
            return self.validation
        batches = sum(trainer.num_val_batches) if trainer.num_val_batches else 0
        return batches * self.batch / 2 if math.isfinite(batches) else 0.0  # no backward pass

    @staticmethod
    def _validations_left(trainer: Trainer, missing: int) -> float:
        every = trainer.val_check_batch
        if not trainer.enable_validation or every is None or not math.isfinite(every):
            return 0.0
        return math.ceil(missing / max(1, every * (trainer.check_val_every_n_epoch or 1)))


def total_batches(trainer: Trainer) -> int | None:
    """Batches of the whole training on each rank; None when nothing limits it."""
    limits = []
    if (
        trainer.max_epochs is not None
        and trainer.max_epochs >= 0
        and math.isfinite(trainer.num_training_batches)
    ):
        limits.append(trainer.max_epochs * int(trainer.num_training_batches))
    if trainer.max_steps >= 0:
        accumulate = getattr(trainer.lightning_module, "accumulate_grad_batches", 1)
        limits.append(trainer.max_steps * accumulate)
    return min(limits, default=None)


def format_left(seconds: float | None) -> str:
    """``3 min 20 s left``; empty when it isn't known."""
    return "" if seconds is None else f"{format_duration(seconds)} left"
