"""Trainings by Lightning, as the commands run them, for a suite to time."""

import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf


def phantom(scratch: Path, patients: int, size: int) -> list[str]:
    """Overrides for an experiment: phantoms of two slices a patient, all to be learnt from."""
    return [
        f"data.root={scratch / 'phantom'}",
        f"data.cache_dir={scratch / 'cache'}",
        f"data.image_size={size}",
        f"data.generate.patients={patients}",
        "data.generate.slices=2",
        "data.fractions=[1,0,0]",
    ]


def timed_epoch(experiment: str, overrides: list[str]) -> tuple[Any, Callable[[], float]]:
    """The module of an experiment, and what trains it for an epoch and returns the epoch's seconds.

    What comes before the epoch doesn't count: latents are encoded before the first one.
    """
    import lightning
    from hydra.utils import instantiate
    from lightning.pytorch.callbacks import LambdaCallback

    from pti.runs.first_stage import embed_first_stage_config, load_first_stage_weights

    config = composed(experiment, overrides)
    weights = embed_first_stage_config(config)
    data, module = instantiate(config["data"]), instantiate(config["model"])
    if weights is not None:
        load_first_stage_weights(module, weights)

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")

    def epoch() -> float:
        marks: list[float] = []
        clock = LambdaCallback(
            on_train_epoch_start=lambda *_: marks.append(time.perf_counter()),
            on_train_epoch_end=lambda *_: marks.append(time.perf_counter()),
        )
        trainer = lightning.Trainer(
            max_epochs=1,
            callbacks=[clock],
            limit_val_batches=0,
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            logger=False,
        )
        trainer.fit(module, data)
        return marks[1] - marks[0]

    return module, epoch


def composed(experiment: str, overrides: list[str]) -> dict[str, Any]:
    """The configuration of a training, plain."""
    from hydra import compose

    config = compose("train", [f"experiment={experiment}", "output_dir=.", *overrides])
    plain: Any = OmegaConf.to_container(config, resolve=True)
    return plain
