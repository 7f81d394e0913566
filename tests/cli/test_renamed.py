"""Old names on the command line."""

import subprocess
import sys

import pytest

from pti.cli.overrides import check_command_line
from pti.common.errors import UsageError


@pytest.mark.parametrize(
    ("override", "new"),
    [
        ("allow_changes=true", "allow_config_changes"),
        ("fresh_sweep=true", "new_sweep"),
        ("model/terms=[gradient]", "model/extra_losses"),
        ("model.terms.gradient.weight=2", "model.extra_losses.gradient.weight"),
        ("model.schedule.final=0.1", "model.lr_schedule.final_factor"),
        ("model.schedule.warmup_steps=5,10", "model.lr_schedule.warmup_steps"),
        ("model.changed_weight=2", "model.change_loss_weight"),
        ("model.path.target=v", "model.path.prediction_type"),
        ("data/augmentation=default", "data/augmentation=mild"),
        ("data/augmentation=none,default", "data/augmentation=mild"),
        ("data/normalization=range", "model/normalization"),
        ("model/perceptual=lpips_alex", "model/perceptual=lpips model.perceptual.net=alex"),
    ],
)
def test_an_old_name_is_answered_with_the_new_one(override: str, new: str):
    with pytest.raises(UsageError, match=rf"was renamed: use {new.replace('.', '[.]')}\.$"):
        check_command_line("train", ["experiment=vae_demo", override])


@pytest.mark.parametrize(
    ("experiment", "override"),
    [
        ("vae_demo", "allow_config_changes=true"),
        ("vae_demo", "new_sweep=true"),
        ("vae_demo", "model/extra_losses=[gradient]"),
        ("vae_demo", "model.lr_schedule.final_factor=0.1"),
        ("vae_demo", "data/augmentation=mild"),
        ("vae_demo", "model/normalization=masked_zscore"),
        ("ldm_demo", "model.change_loss_weight=2"),
        ("ldm_demo", "model.path.prediction_type=sample"),
    ],
)
def test_the_new_names_exist(experiment: str, override: str):
    line = check_command_line("train", [f"experiment={experiment}", override])
    assert line.overridden == ["experiment", override.split("=")[0]]


def test_the_command_ends_with_code_2():
    command = [sys.executable, "-m", "pti.train", "experiment=vae_demo", "model.schedule.final=0.1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "Error: model.schedule.final was renamed: use model.lr_schedule.final_factor.\n"
