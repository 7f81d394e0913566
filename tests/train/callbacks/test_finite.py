"""Detection of losses and weights that are not finite."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from helpers.training_setup import configuration
from pti.train.callbacks.finite import first_not_finite, not_finite_error, weights_are_finite


def test_infinite_weights_are_detected():
    module: Any = torch.nn.Linear(2, 2)
    assert weights_are_finite(module)
    module.bias.data[1] = torch.inf
    assert not weights_are_finite(module)


@pytest.mark.parametrize(("scale", "found"), [(None, "loss"), (65536.0, None), (1.0, None), (0.5, "loss")])
def test_fp16_skips_infinite_losses_until_its_scale_is_used_up(scale, found):
    scaler = None if scale is None else torch.amp.GradScaler("cpu", init_scale=scale)  # pyright: ignore
    trainer: Any = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        precision_plugin=SimpleNamespace(scaler=scaler),
        lightning_module=None,
    )
    trainer.lightning_module = SimpleNamespace(trainer=trainer)
    assert first_not_finite(trainer, {"loss": torch.tensor(torch.inf)}) == found
    assert first_not_finite(trainer, {"loss": torch.tensor(1.0)}) is None


@pytest.mark.parametrize(
    ("model", "rates"),
    [
        ("adversarial_vae", {"model.generator_optimizer.lr", "model.discriminator_optimizer.lr"}),
        ("latent_diffusion", {"model.optimizer.lr"}),
        ("regression", {"model.optimizer.lr"}),
        ("latent_regression", {"model.optimizer.lr"}),
    ],
)
def test_the_advice_names_keys_of_the_model(root, tmp_path, model, rates):
    config = configuration(root, tmp_path, base=[f"model={model}"])
    plain: Any = OmegaConf.to_container(config)
    message = str(not_finite_error("train/loss", 7, [0], plain))
    keys = set(re.findall(r"(?:model|trainer)\.\w+(?:\.\w+)*", message))
    assert keys - {"model.gradient_clip_val"} == rates
    assert all(OmegaConf.select(config, key) is not None for key in rates)
    present = OmegaConf.select(config, "model.gradient_clip_val")
    assert float(message.split("gradient_clip_val=")[1].split(")")[0]) < (present or 10)
    assert "trainer.precision" not in message


def test_16_bit_floats_are_named_only_if_they_are_used():
    assert "trainer.precision" not in _message("32-true")
    assert "trainer.precision=32-true" in _message("16-mixed")


def _message(precision: str) -> str:
    return str(not_finite_error("train/loss", 7, [0], {"trainer": {"precision": precision}}))
