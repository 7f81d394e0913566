"""Each switch of the second stage for speed or memory: it works, and changes results by rounding at most."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.second_stage_setup import configuration, trained
from pti.diffusion.paths import VariancePreserving
from pti.modules import latent_diffusion

# Plain descent: an adaptive rate would make much of what rounding changes.
DESCENT = [
    "model.optimizer._target_=torch.optim.SGD",
    "~model.optimizer.betas",
    "model.optimizer.lr=1e-2",
    "trainer.max_epochs=1",
    "data.subset=8",
]


@pytest.fixture(scope="module")
def weights(root: Path, autoencoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Trains with settings; the network's weights and their average by name."""

    @functools.cache
    def train(*settings: str) -> dict[str, Tensor]:
        folder = tmp_path_factory.mktemp("run")
        config = configuration(root, folder, f"autoencoder_ckpt='{autoencoder}'", *DESCENT, *settings)
        stored = torch.load(trained(config, folder) / "checkpoints" / "last.ckpt", weights_only=True)
        state = stored["state_dict"]
        return {name: state[name] for name in state if name.startswith(("network.", "ema.model."))}

    return train


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert list(found) == list(expected)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_channels_last_gives_the_same_training(weights: Any):
    assert_same(weights("model.channels_last=true"), weights(), 1e-5)


def test_checkpointing_gives_the_same_training(weights: Any):
    found = weights("model.network.use_checkpoint=true")
    assert_same(found, weights(), 1e-6)


def test_two_accumulated_batches_are_one_of_both(weights: Any, monkeypatch: pytest.MonkeyPatch):
    def half(self: VariancePreserving, count: int, generator: torch.Generator) -> Tensor:
        return torch.full((count,), 0.5, dtype=torch.float64)

    monkeypatch.setattr(latent_diffusion, "gaussian_noise", lambda like, generator: torch.zeros_like(like))
    monkeypatch.setattr(VariancePreserving, "training_times", half)
    settings = ["model.sample_posterior=false", "model.path.prediction_type=v"]
    whole = weights(*settings, "data.batch_size=8")
    assert_same(weights(*settings, "model.accumulate_grad_batches=2"), whole, 1e-5)


def test_bf16_trains_in_single_precision_weights(weights: Any):
    mixed, plain = weights("trainer.precision=bf16-mixed"), weights()
    assert all(value.dtype == torch.float32 for value in mixed.values() if value.is_floating_point())
    assert any(not torch.equal(mixed[name], plain[name]) for name in plain)
    assert_same(mixed, plain, 2e-2)
