"""A resumed run uses every setting that it was allowed to change; settings that cannot change are refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from helpers import second_stage_setup, training_setup
from helpers.recorder import SEEN
from pti.common.errors import UsageError
from pti.runs.checkpoint import open_checkpoint
from pti.train.run import train

RESUMED = ("trainer.max_epochs=2", "allow_config_changes=true")
RECORDER = "+callbacks.recorder={_target_:helpers.recorder.Recorder}"


def resumed(run: Path, config: Any, tmp_path: Path) -> None:
    """Branch from a run's last checkpoint with another configuration."""
    OmegaConf.update(config, "ckpt_path", str(run / "checkpoints" / "last.ckpt"))
    SEEN.clear()
    assert train(config, tmp_path) == 0


@pytest.fixture(scope="module")
def stage_1(root, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stage_1") / "run"
    config = training_setup.configuration(root, folder, "trainer.max_epochs=1", "model.disc_start=0")
    assert train(config, folder) == 0
    return folder


@pytest.fixture(scope="module")
def stage_2(root, link, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stage_2") / "run"
    assert train(second_stage_setup.configuration(root, folder, link, "trainer.max_epochs=1"), folder) == 0
    return folder


def group(index: int, name: str) -> Any:
    return SEEN["groups"][index][name]


STAGE_1 = {
    "model.generator_optimizer.lr=3e-3": lambda: group(0, "lr") == 3e-3,
    "model.discriminator_optimizer.lr=4e-3": lambda: group(1, "lr") == 4e-3,
    "model.generator_optimizer.betas=[0.5,0.6]": lambda: tuple(group(0, "betas")) == (0.5, 0.6),
    "+model.generator_optimizer.weight_decay=0.1": lambda: group(0, "weight_decay") == 0.1,
    "model.lr_schedule.warmup_steps=1000": lambda: group(0, "lr") < 1e-4,
    "model.lr_schedule.decay=linear": lambda: group(0, "lr") < 1e-3,
    "model.kl_weight=0.5": lambda: SEEN["module"].objective.kl_weight == 0.5,
    "model.adv_weight=0.25": lambda: SEEN["module"].adv_weight == 0.25,
    "model.adaptive_adv_weight=true": lambda: SEEN["module"].adaptive_adv_weight,
    "model/reconstruction=l2": lambda: "l2" in str(SEEN["module"].objective.reconstruction),
    "model/extra_losses=[gradient]": lambda: list(SEEN["module"].objective.extra_losses) == ["gradient"],
    "model/attributes=bone_sizes": lambda: SEEN["module"].attributes.fitted,
    "model/adversarial=hinge": lambda: SEEN["module"].adversarial.name == "hinge",
    "model.gradient_clip_val=0.1": lambda: SEEN["module"].gradient_clip_val == 0.1,
    "model.accumulate_grad_batches=2": lambda: SEEN["module"].accumulate_grad_batches == 2,
    "model.disc_start=1000": lambda: not SEEN["module"].discriminator_trains,
    "model.ema_decay=0.5": lambda: SEEN["module"].ema.decay == 0.5,
    "model.ema_update_every=2": lambda: SEEN["module"].ema.update_every == 2,
    "model.ema_decay=null": lambda: SEEN["module"].ema is None,
    "seed=7": lambda: SEEN["module"].seed == 7,
    "trainer.precision=bf16-mixed": lambda: SEEN["precision"] == "bf16-mixed",
}
STAGE_2 = {
    "model.optimizer.lr=3e-3": lambda: group(0, "lr") == 3e-3,
    "model.min_snr_gamma=5": lambda: SEEN["module"].min_snr_gamma == 5,
    "model.change_loss_weight=4": lambda: SEEN["module"].change_loss_weight == 4,
    "model.condition_dropout=0.3": lambda: SEEN["module"].condition_dropout == 0.3,
    "model/path=cosine": lambda: type(SEEN["module"].path).__name__ == "Cosine",
    "model.sampling_steps=1": lambda: SEEN["module"].sampling_steps == 1,
    "model.ema_decay=null": lambda: SEEN["module"].ema is None,
}


@pytest.mark.parametrize("override", STAGE_1)
def test_stage_1_uses_the_changed_setting(root, stage_1, tmp_path, override):
    base = [] if override.startswith("model.disc_start=") else ["model.disc_start=0"]
    config = training_setup.configuration(root, tmp_path, *base, *RESUMED, RECORDER, override)
    resumed(stage_1, config, tmp_path)
    assert STAGE_1[override]()


@pytest.mark.parametrize("override", STAGE_2)
def test_stage_2_uses_the_changed_setting(root, link, stage_2, tmp_path, override):
    config = second_stage_setup.configuration(root, tmp_path, link, *RESUMED, RECORDER, override)
    resumed(stage_2, config, tmp_path)
    assert STAGE_2[override]()


def test_an_average_that_the_checkpoint_lacks_starts_from_its_weights(root, tmp_path):
    settings = ("model.disc_start=0", "model.ema_decay=null", "trainer.max_epochs=1")
    assert train(training_setup.configuration(root, tmp_path / "run", *settings), tmp_path / "run") == 0
    config = training_setup.configuration(
        root, tmp_path / "more", "model.disc_start=0", *RESUMED, RECORDER, "model.ema_decay=0.9999"
    )
    resumed(tmp_path / "run", config, tmp_path / "more")
    ema = SEEN["module"].ema
    assert 0 < ema.steps < 12
    before = open_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt").state
    average = open_checkpoint(tmp_path / "more" / "checkpoints" / "last.ckpt").state
    name = next(name for name in before if name.startswith("autoencoder.") and name.endswith("weight"))
    trained, start = average[name], before[name]
    averaged = average[f"ema.model.{name.removeprefix('autoencoder.')}"]
    assert not torch.equal(averaged, start)
    assert (averaged - start).abs().max() <= 2 * (trained - start).abs().max()


@pytest.mark.parametrize(
    "override",
    [
        "model.autoencoder.channels=[4,16]",
        "model.normalization.gap=0.3",
        "model.generator_optimizer._target_=torch.optim.RMSprop",
        "model/adversarial=none",
    ],
)
def test_settings_that_the_weights_depend_on_are_refused(root, stage_1, tmp_path, override):
    extra = ["~model.generator_optimizer.betas"] if "RMSprop" in override else []
    config = training_setup.configuration(root, tmp_path, "model.disc_start=0", *RESUMED, *extra, override)
    OmegaConf.update(config, "ckpt_path", str(stage_1 / "checkpoints" / "last.ckpt"))
    with pytest.raises(UsageError, match=override.split("=")[0].replace("/", ".")):
        train(config, tmp_path)


@pytest.mark.parametrize("key", ["texture", "size_condition"])
def test_modules_that_are_fitted_before_the_first_step_cannot_be_added(root, link, stage_2, tmp_path, key):
    option = {"texture": "synthesized", "size_condition": "predicted"}[key]
    config = second_stage_setup.configuration(root, tmp_path, link, *RESUMED, f"model/{key}={option}")
    OmegaConf.update(config, "ckpt_path", str(stage_2 / "checkpoints" / "last.ckpt"))
    with pytest.raises(UsageError, match=f"model.{key}"):
        train(config, tmp_path)
