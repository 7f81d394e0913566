"""No training step, validation step or sampling waits for the device.

Tested on the meta device, where nothing has a value to wait for, and on a GPU, where torch reports it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from helpers.device_waits import Waited, allowed, cheap_weights, may_wait, meta_device, no_waiting, trainer_of
from helpers.training_setup import configuration
from pti.common.conf_dir import CONF_DIR
from pti.common.randomness import sample_generator
from pti.diffusion.samplers import gaussian_noise, sample
from pti.modules.adversarial_vae import AdversarialVAE
from pti.modules.latent_diffusion import LatentDiffusion
from pti.train.callbacks import CollapseCheck, MetricsCsv, TrainingProgress

EXPERIMENTS = sorted(path.stem for path in (CONF_DIR / "experiment").glob("*.yaml"))
QUICK = ("smoke", "smoke_ldm", "ldm_demo", "regression_demo", "regression_latent", "sizes", "sizes_latent")
"""One experiment of each module; the large networks of the others take seconds to build."""

PATHS, SAMPLERS = (
    sorted(path.stem for path in (CONF_DIR / "model" / group).glob("*.yaml")) for group in ("path", "sampler")
)

LIGHTNING = "lightning.pytorch"
CONNECTOR = f"{LIGHTNING}.trainer.connectors.logger_connector"
WAITS = {
    f"{LIGHTNING}.strategies.strategy:Strategy.setup": "once a run: moves the weights",
    f"{LIGHTNING}.strategies.strategy:Strategy.teardown": "once a run: moves them back",
    f"{LIGHTNING}.loops.evaluation_loop:has_len_all_ranks": "once a run: looks for empty loaders",
    f"{LIGHTNING}.loops.fit_loop:has_len_all_ranks": "once a run: looks for empty loaders",
    f"{CONNECTOR}.logger_connector:_LoggerConnector.teardown": "once a run: the last metrics",
    f"{CONNECTOR}.result:_ResultCollection.cpu": "once a run: the last metrics",
    f"{CONNECTOR}.logger_connector:_LoggerConnector.on_epoch_end": "once an epoch or validation: metrics",
    f"{CONNECTOR}.logger_connector:_LoggerConnector.update_eval_epoch_metrics": "once a validation: metrics",
    f"{CONNECTOR}.logger_connector:_LoggerConnector.update_train_epoch_metrics": "once an epoch: metrics",
    "pti.modules.translation:prepare_latents": "once a run: writes the latent cache, measures the latents",
    "pti.modules.sizes:prepare_latents": "once a run: writes the latent cache, measures the latents",
    "pti.modules.latent_diffusion:fit_sizes": "once a run: measures the training set",
    "pti.modules.latent_diffusion:LatentDiffusion._measure_channels": "once a run: decodes some images",
    "pti.modules.sizes:SizePrediction.on_fit_start": "once a run: measures the training set",
    "pti.modules.adversarial_vae:AdversarialVAE.on_fit_start": "once a run: measures the training set",
    "pti.modules.validation_metrics:ValidationMetrics.reset": "once a validation: new sums",
    "pti.modules.manual_optimization:ManualOptimization.on_validation_epoch_end": "once a validation",
    "pti.train.callbacks.collapse:adversarial_gradient": "once a validation, on its first batch",
    "pti.train.callbacks.collapse:CollapseCheck.on_validation_end": "once a validation: reads the metrics",
    "pti.train.callbacks.metrics_csv:MetricsCsv.on_validation_end": "once a validation: reads the metrics",
    "pti.train.callbacks.metrics_csv:MetricsCsv.on_train_epoch_end": "once an epoch: writes the metrics",
    "pti.train.callbacks.progress:TrainingProgress._describe": "after some seconds of any number of batches",
}
"""Whatever may wait for the device, and how often. Not tested here: checkpoints, pictures, and, once in
``trainer.log_every_n_steps`` batches, points of the curves and the check for a loss of NaN."""


@pytest.mark.parametrize(
    "experiment",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow, id=name) for name in EXPERIMENTS],
)
def test_no_step_waits_for_the_device(experiment: str, root: Path, tmp_path: Path) -> None:
    with meta_device() as settings, cheap_weights(), allowed(WAITS, may_wait), no_waiting():
        fit(experiment, root, tmp_path, settings)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("path", PATHS)
def test_no_sampler_waits_for_the_device(path: str, sampler: str) -> None:
    with no_waiting():
        draw(path, sampler, torch.device("meta"))


@pytest.mark.parametrize("hook", ["training_step", "validation_loss", "translate"])
def test_a_step_that_reads_a_value_is_found(
    hook: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = getattr(LatentDiffusion, hook)

    def reading(self: LatentDiffusion, *args: Any, **kwargs: Any) -> Any:
        next(self.network.parameters()).sum().item()
        return original(self, *args, **kwargs)

    monkeypatch.setattr(LatentDiffusion, hook, reading)
    with (
        meta_device() as settings,
        cheap_weights(),
        allowed(WAITS, may_wait),
        no_waiting(),
        pytest.raises(Waited, match="reads a value"),
    ):
        fit("smoke_ldm", root, tmp_path, settings)


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x[[0, 1]],
        lambda x: torch.tensor(1.0, device=x.device),
        lambda x: torch.ones(3).to(x.device),
        lambda x: x.copy_(torch.ones(3)),
    ],
)
def test_each_way_to_wait_is_found(wait: Any) -> None:
    with no_waiting(), pytest.raises(Waited):
        wait(torch.ones(3, device="meta"))


@pytest.mark.gpu
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_no_step_waits_for_a_gpu(experiment: str, root: Path, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    with allowed(WAITS, silenced), reported_by_torch():
        fit(experiment, root, tmp_path, {"accelerator": "gpu", "devices": 1})


@pytest.mark.gpu
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("path", PATHS)
def test_no_sampler_waits_for_a_gpu(path: str, sampler: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    with reported_by_torch():
        draw(path, sampler, torch.device("cuda"))


def fit(experiment: str, root: Path, folder: Path, settings: dict[str, Any]) -> Any:
    """Train an experiment's networks for a batch and a validation."""
    module, data = build(experiment, root, folder)
    callbacks = [MetricsCsv(), CollapseCheck(), TrainingProgress()]
    trainer = trainer_of(settings, callbacks=callbacks, logger=False, default_root_dir=folder)
    trainer.fit(module, data)
    return module


def draw(path: str, sampler: str, device: torch.device) -> None:
    """Sample latents along a path."""
    source = torch.zeros(2, 4, 8, 8, device=device)
    generators = [sample_generator(0, name, 0) for name in "ab"]
    sample(
        instantiate(OmegaConf.load(CONF_DIR / "model" / "path" / f"{path}.yaml")),
        lambda x, timesteps: x * timesteps.view(-1, 1, 1, 1),
        instantiate(OmegaConf.load(CONF_DIR / "model" / "sampler" / f"{sampler}.yaml")),
        4,
        gaussian_noise(source, generators),
        generators,
        source=source,
    )


def build(experiment: str, root: Path, folder: Path) -> tuple[Any, Any]:
    """The module with new weights, and tiny data of the experiment's image size."""
    small = ["data.batch_size=2", "data.num_workers=0", "data.cache=false", "data.fractions=[0.5,0.5,0]"]
    config: Any = configuration(root, folder, *small, base=[f"experiment={experiment}"])
    shorten(config.model)
    if "first_stage" in config.model:
        stage_1 = configuration(root, folder, base=[f"experiment={config.autoencoder_ckpt.split(':')[1]}"])
        config.model.first_stage = {
            "_target_": "pti.networks.frozen_autoencoder.FrozenAutoencoder",
            "autoencoder": shorten(stage_1.model).autoencoder,
            "normalization": stage_1.model.normalization,
        }
        config.model.pop("normalization", None)
    module = instantiate(config.model)
    if isinstance(module, AdversarialVAE):
        module.disc_start = 0
    return module, instantiate(config.data)


def shorten(model: Any) -> Any:
    """Leave out what repeats the same operations: levels, residual blocks, sampling steps."""
    for settings in (model.get("network"), model.get("autoencoder")):
        if settings and "attention_levels" in settings:
            settings.num_res_blocks = 1
            settings.channels = settings.channels[-2:]
            settings.attention_levels = settings.attention_levels[-2:]
            settings.latent_channels = min(settings.latent_channels, 4)  # all of a 2 × 2 patch
    if "sampling_steps" in model:
        model.sampling_steps = 2
    return model


@contextlib.contextmanager
def reported_by_torch() -> Iterator[None]:
    """Let torch raise at each wait for a GPU."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Let torch wait for a GPU."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("default")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
