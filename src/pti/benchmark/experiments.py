"""Experiments to measure: phantoms to train on, untrained checkpoints, epochs of our training."""

from __future__ import annotations

import logging
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pti.benchmark.device import synchronize
from pti.benchmark.settings import Experiment, SuiteSettings

if TYPE_CHECKING:
    import torch

PHANTOM_PAIRS = 8
"""Pairs of different patients that are drawn; larger sets repeat their files under other names."""


def phantom_overrides(settings: SuiteSettings, size: int, pairs: int, batch_size: int) -> list[str]:
    """Draw pairs and return an experiment's overrides that train on all of them, without augmentation.

    Args:
        settings: Settings of the suite.
        size: Edge of the images, pixels.
        pairs: Number of pairs.
        batch_size: Samples in a batch.
    """
    root = draw_pairs(settings.scratch / f"pairs_{size}_{pairs}", size, pairs)
    return [
        "data=tif",
        f"data.root={root}",
        f"data.cache_dir={settings.scratch / 'cache'}",
        f"data.image_size={size}",
        f"data.batch_size={batch_size}",
        "data/augmentation=none",
        "data.fractions=[1,0,0]",
        "data.num_workers=0",
    ]


def draw_pairs(folder: Path, size: int, pairs: int) -> Path:
    """Write a data set of phantom pairs, unless it exists; return its folder.

    Each pair is from another patient.
    """
    import shutil

    from pti.common.progress import track
    from pti.data.phantom.pairs import draw_pairs as draw_patient
    from pti.data.phantom.pairs import write_pair

    if folder.exists():
        return folder
    beside = folder.with_name(f".{folder.name}.part")
    for role in ("dente", "edente"):
        (beside / role).mkdir(parents=True)
    drawn = min(pairs, PHANTOM_PAIRS)
    names = []
    for patient in track(range(drawn), "Drawing phantoms"):
        pair = next(draw_patient(0, patient, 1, max(64, size), 0.15))
        write_pair(beside, pair)
        names.append(pair.name)
    for number in range(drawn, pairs):
        source = names[number % drawn]
        for role in ("dente", "edente"):
            copy = beside / role / f"{source.rpartition('_')[0]}_{number + 1:05d}.tif"
            shutil.copyfile(beside / role / f"{source}.tif", copy)
    beside.rename(folder)
    return folder


def save_untrained(settings: SuiteSettings, name: str, overrides: list[str], path: Path) -> Path:
    """Save the checkpoint of a first stage before its first step, unless it exists; return its path.

    It is as fast as a trained one.
    """
    if not path.exists():
        experiment = settings.build(name, overrides)
        experiment.data.prepare_data()
        experiment.data.setup("fit")
        experiment.module.normalization.fit(experiment.data.training_images())
        save(experiment, path)
    return path


def save(experiment: Experiment, path: Path) -> None:
    """Save an experiment as a checkpoint."""
    import torch

    torch.save({"config": experiment.config, "state_dict": experiment.module.state_dict()}, path)


def fix_seed() -> None:
    """Seed torch, so that all sides start from the same weights."""
    import torch

    torch.manual_seed(0)


def time_epoch(experiment: Experiment, device: torch.device, precision: str = "32-true") -> float:
    """Train for one epoch on one device and return its seconds.

    Work before the epoch does not count, such as encoding the latents before the first one.
    """
    import lightning
    from lightning.pytorch.callbacks import LambdaCallback

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    times: list[float] = []

    def note_time(*_: object) -> None:
        synchronize(device)
        times.append(time.perf_counter())

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore")
        trainer = lightning.Trainer(
            max_epochs=1,
            accelerator=device.type,
            devices=1,  # one process, also on a machine with several GPUs
            precision=precision,  # pyright: ignore[reportArgumentType]
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


def training_batches(experiment: Experiment, device: torch.device) -> list[dict[str, Any]]:
    """Return the batches of an epoch of raw images, on the device."""
    from torch import Tensor

    experiment.data.prepare_data()
    experiment.data.setup("fit")
    return [
        {name: item.to(device) if isinstance(item, Tensor) else item for name, item in batch.items()}
        for batch in experiment.data.train_dataloader()
    ]
