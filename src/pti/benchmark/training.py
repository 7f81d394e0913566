"""Training of an experiment, timed epoch by epoch."""

import logging
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Experiment:
    """An experiment's resolved configuration, and the data module and module built from it."""

    config: dict[str, Any]
    data: Any
    module: Any


@dataclass(frozen=True)
class SuiteSettings:
    """Settings of a suite.

    Attributes:
        images: Images per run.
        image_size: Side length of the images, pixels.
        scratch: Folder for temporary files.
        build: Builds an experiment from its name and overrides.
    """

    images: int
    image_size: int
    scratch: Path
    build: Callable[[str, Sequence[str]], Experiment]

    def phantom(self, patients: int, size: int) -> list[str]:
        """Return an experiment's overrides for phantoms with two slices per patient, all for training."""
        return [
            f"data.root={self.scratch / 'phantom'}",
            f"data.cache_dir={self.scratch / 'cache'}",
            f"data.image_size={size}",
            f"data.generate.patients={patients}",
            "data.generate.slices=2",
            "data.fractions=[1,0,0]",
            "data.num_workers=0",
        ]


def time_epoch(experiment: Experiment) -> float:
    """Train for one epoch and return its seconds.

    Work before the epoch does not count, such as encoding the latents before the first one.
    """
    import lightning
    from lightning.pytorch.callbacks import LambdaCallback

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
    times: list[float] = []

    def note_time(*_: object) -> None:
        times.append(time.perf_counter())

    trainer = lightning.Trainer(
        max_epochs=1,
        callbacks=[LambdaCallback(on_train_epoch_start=note_time, on_train_epoch_end=note_time)],
        limit_val_batches=0,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        logger=False,
    )
    trainer.fit(experiment.module, experiment.data)
    return times[1] - times[0]
