"""No training step, validation step or sampling waits for the device.

On the meta device, where nothing has a value; the same on a GPU, where torch says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from lightning import Trainer
from omegaconf import OmegaConf

from helpers.device_waits import NoWaiting, Waited, allowed, cheap_weights, may_wait, meta_device, trainer_of
from helpers.training_setup import configuration
from pti.common.conf_dir import CONF_DIR
from pti.common.randomness import sample_generator
from pti.modules.protocols import Translator
from pti.train.callbacks import CollapseCheck, MetricsCsv, Pictures, TrainingProgress

EXPERIMENTS = sorted(path.stem for path in (CONF_DIR / "experiment").glob("*.yaml"))
SAMPLERS = sorted(path.stem for path in (CONF_DIR / "sampler").glob("*.yaml"))

WAITS = {
    "lightning.pytorch.strategies:SingleDeviceStrategy.model_to_device": "once a run: moves the weights",
    "pti.modules.translation:prepare_latents": "once a run: writes the latent cache, measures the latents",
    "pti.modules.validation_metrics:RunningMeans.compute": "once a validation: its metrics",
    "pti.modules.validation_metrics:Variation.compute": "once a validation: a metric",
    "pti.train.callbacks.collapse:adversarial_gradient": "once a validation, on its first batch",
    "pti.train.callbacks.collapse:CollapseCheck.on_validation_end": "once a validation: reads the metrics",
    "pti.train.callbacks.metrics_csv:MetricsCsv.on_validation_end": "once a validation: reads the metrics",
    "pti.train.callbacks.metrics_csv:MetricsCsv.on_train_epoch_end": "once an epoch: writes the metrics",
    "pti.train.callbacks.pictures:compare": "once in callbacks.pictures.every_n_epochs: draws images",
    "pti.train.callbacks.progress:TrainingProgress._describe": "after seconds, whatever the number of batches",
}
"""Whatever may wait for the device, and how often."""


def fit(experiment: str, root: Path, folder: Path, settings: dict[str, Any]) -> Any:
    """Train an experiment's networks, at their full size, for two batches and a validation."""
    module, data = build(experiment, root, folder)
    callbacks = [MetricsCsv(), CollapseCheck(), Pictures(images=2), TrainingProgress()]
    trainer = trainer_of(settings, callbacks=callbacks, logger=False, default_root_dir=folder)
    trainer.fit(module, data)
    return module


def build(experiment: str, root: Path, folder: Path) -> tuple[Any, Any]:
    """The module with new weights, and tiny data of the experiment's image size."""
    small = ["data.batch_size=2", "data.num_workers=0", "data.cache=false", "data.fractions=[0.5,0.5,0]"]
    config: Any = configuration(root, folder, *small, base=[f"experiment={experiment}"])
    if "first_stage" in config.model:
        stage_1 = configuration(root, folder, base=[f"experiment={config.autoencoder_ckpt.split(':')[1]}"])
        config.model.first_stage = {
            "_target_": "pti.networks.frozen_autoencoder.FrozenAutoencoder",
            "autoencoder": stage_1.model.autoencoder,
            "normalization": stage_1.model.normalization,
        }
        config.model.pop("normalization", None)
    else:
        config.model.disc_start = 0
    with cheap_weights():
        return instantiate(config.model), instantiate(config.data)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_no_step_waits_for_the_device(experiment: str, root: Path, tmp_path: Path) -> None:
    with meta_device() as settings, allowed(WAITS, may_wait), NoWaiting():
        fit(experiment, root, tmp_path, settings)
