"""Time, memory and disk space that a training will need, from its first batches."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from pti.common.progress import format_duration
from pti.train.callbacks.progress import Clock

WARM_UP, TIMED = 3, 10
_FROM_SECONDS = 600  # the progress bar is enough for a shorter training


class Forecasted(Exception):  # noqa: N818  (control flow, not an error)
    """The forecast was all that was asked for."""


class Forecast(Callback):
    """Print the time, memory and disk space that a training of 10 minutes or more needs, after 13 batches.

    The time of validations is an estimate: the time of as many training batches, halved. A second stage also
    translates images in a validation, and those of ``trust_images`` at its end; both come on top.

    Args:
        only: print them for any training, and end the run.

    Attributes:
        metrics: what was printed: ``forecast/seconds``, of the whole training (None without an end),
            ``forecast/seconds_per_epoch``, ``forecast/memory_gb`` (of this process on its GPU, or on the
            CPU), ``forecast/checkpoints_gb``, ``forecast/cache_folder_gb`` (of all data sets).
    """

    def __init__(self, only: bool = False) -> None:
        self.only = only
        self.metrics: dict[str, float | None] = {}
        self._clock = Clock()
        self._batches = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._clock.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a batch; print after the last one that is timed."""
        if self.metrics:
            return
        if (
            self._batches in (WARM_UP - 1, WARM_UP + TIMED - 1)
            and trainer.strategy.root_device.type == "cuda"
        ):
            torch.cuda.synchronize()  # two of all batches wait, so that the clock counts work that is done
        self._clock.end_batch()
        self._batches += 1
        if self._batches < WARM_UP + TIMED:
            return
        self.metrics = self._measure(trainer, pl_module)
        seconds = self.metrics["forecast/seconds"]
        if trainer.is_global_zero and (self.only or seconds is None or seconds >= _FROM_SECONDS):
            print(self._text(trainer), file=sys.stdout if self.only else sys.stderr, flush=True)
        if self.only:
            raise Forecasted

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say so if the training was too short for a forecast."""
        if self.only and not self.metrics:
            print(f"A forecast needs more than {self._batches} batches: the training has run to its end.")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._clock.pause()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Resume the clock."""
        self._clock.resume()

    def _measure(self, trainer: Trainer, module: LightningModule) -> dict[str, float | None]:
        batches, data = trainer.num_training_batches, cast(Any, trainer).datamodule
        every = getattr(trainer.checkpoint_callback, "keep_every_n_epochs", None)
        copies = 2 + (max(0, trainer.max_epochs or 0) // every if every else 0)
        return {
            "forecast/seconds": self._clock.left(trainer, from_start=True),
            "forecast/seconds_per_epoch": batches * self._clock.batch if math.isfinite(batches) else None,
            "forecast/memory_gb": _peak_memory(trainer.strategy.root_device) / 1e9,
            "forecast/checkpoints_gb": copies * _checkpoint_bytes(trainer, module) / 1e9,
            "forecast/cache_folder_gb": _size(data.cache_dir) / 1e9,
        }

    def _text(self, trainer: Trainer) -> str:
        values = {name.removeprefix("forecast/"): value for name, value in self.metrics.items()}
        epoch, whole = values["seconds_per_epoch"], values["seconds"]
        times = [
            f"{self._clock.batch:.2g} s for a batch",
            *([] if epoch is None else [f"{format_duration(epoch)} for an epoch"]),
            "no end is set" if whole is None else f"{format_duration(whole)} for the whole training",
        ]
        where = "GPU memory" if trainer.strategy.root_device.type == "cuda" else "memory"
        free = shutil.disk_usage(trainer.default_root_dir).free / 1e9
        return (
            f"Forecast: {', '.join(times)}; {_as_size(values['memory_gb'])} of {where} so far; checkpoints "
            f"{_as_size(values['checkpoints_gb'])}, cache folder {_as_size(values['cache_folder_gb'])}, "
            f"{_as_size(free)} of disk are free."
        )


def _as_size(gigabytes: float | None) -> str:
    gigabytes = gigabytes or 0.0
    return f"{gigabytes:.1f} GB" if gigabytes >= 1 else f"{1000 * gigabytes:.0f} MB"


def _peak_memory(device: torch.device) -> float:
    """Return the largest memory of this process so far in bytes, on its GPU or on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _checkpoint_bytes(trainer: Trainer, module: LightningModule) -> int:
    """Return the size of a checkpoint's tensors."""
    states = [module.state_dict(), *(optimizer.state_dict() for optimizer in trainer.optimizers)]
    return sum(tensor.nbytes for tensor in _tensors(states))


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
