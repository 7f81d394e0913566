"""Translation in latents: the same with and without the latent cache, scaled, in one checkpoint."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.second_stage_setup import (
    configuration,
    data_of,
    generators,
    recorded_pairs,
    trained,
    training_batch,
)
from pti.modules.latent_diffusion import LatentDiffusion
from pti.runs.checkpoint import load, read
from pti.train.run import train

pytestmark = pytest.mark.usefixtures("without_curves")

SHORT = (
    "trainer.limit_train_batches=2",
    "trainer.num_sanity_val_steps=0",
    "trainer.limit_val_batches=0",
    "callbacks.checkpointer.monitor=null",
    "logger=csv",
)


@pytest.mark.parametrize(
    ("augmentation", "sample_posterior"),
    [("mild", True), pytest.param("none", False, marks=pytest.mark.slow)],
)
def test_with_and_without_cache_the_same_latents_are_trained_on(
    root: Path, autoencoder: Path, tmp_path: Path, augmentation: str, sample_posterior: bool
):
    """Two epochs of two views; a third would begin again with the first."""
    seen, configs = {}, {}
    chosen = (f"data/augmentation={augmentation}", f"model.sample_posterior={sample_posterior}")
    for cached in ("true", "false"):
        folder, overrides = tmp_path / cached, (f"model.cache_latents={cached}", "model.latent_views=2")
        configs[folder] = configuration(
            root, folder, f"autoencoder_ckpt='{autoencoder}'", *SHORT, *overrides, *chosen
        )
        with recorded_pairs() as seen[cached]:
            trained(configs[folder], folder)
    assert len(seen["true"]) == len(seen["false"]) == 4
    for (named, cached), (other_named, encoded) in zip(seen["true"], seen["false"], strict=True):
        assert named == other_named
        torch.testing.assert_close(cached, encoded, rtol=1e-4, atol=1e-4)
    for folder, config in configs.items():
        data = data_of(config)
        whole = training_batch(data, len(data.training_set()))
        assert_unit_standard_deviation(load(folder / "checkpoints" / "last.ckpt"), whole)


def test_views_of_epochs_that_will_not_come_are_not_encoded(root: Path, autoencoder: Path, tmp_path: Path):
    found = []
    for epochs in (1, 2):
        settings = (
            *SHORT,
            "model.latent_views=8",
            "data/augmentation=mild",
            f"trainer.max_epochs={epochs}",
        )
        cache = f"data.cache_dir='{tmp_path / 'cache'}'"
        folder = tmp_path / str(epochs)
        trained(configuration(root, folder, f"autoencoder_ckpt='{autoencoder}'", cache, *settings), folder)
        found.append(sorted(file.name for file in (tmp_path / "cache").rglob("view_*")))
    assert found == [["view_000.npy"], ["view_000.npy", "view_001.npy"]]


@torch.no_grad()
def assert_unit_standard_deviation(module: Any, whole: dict[str, Any]) -> None:
    """Of the first view's targets, as they are learnt; conditions are scaled alike."""
    found = module.latent_space.posteriors(whole)
    mean = module.latent_space.scaling.normalize(found["target_mean"]).double()
    std = (found["target_std"] / module.latent_space.scaling.scale).double()
    variance = mean.square().mean((0, 2, 3)) + module.latent_space.sample_posterior * std.square().mean(
        (0, 2, 3)
    )
    torch.testing.assert_close(mean.mean((0, 2, 3)), torch.zeros(4).double(), rtol=0, atol=1e-4)
    torch.testing.assert_close(variance, torch.ones(4).double(), rtol=1e-4, atol=0)
    condition = module.latent_space.encode_condition(whole["condition"][:2])
    torch.testing.assert_close(condition, module.latent_space.scaling.normalize(found["condition_mean"][:2]))


def test_one_checkpoint_is_enough_to_translate(root: Path, autoencoder: Path, tmp_path: Path):
    own = tmp_path / "stage_1" / "best.ckpt"
    own.parent.mkdir()
    shutil.copy(autoencoder, own)
    pictures = "callbacks.pictures={_target_:pti.train.callbacks.Pictures,images:2}"
    config = configuration(
        root, tmp_path / "run", f"autoencoder_ckpt='{own}'", "trainer.max_epochs=1", pictures
    )
    assert train(config, tmp_path / "run") == 0
    shutil.rmtree(own.parent)
    shutil.rmtree(config.data.cache_dir)
    assert (tmp_path / "run" / "images" / "epoch=0001.png").is_file()
    assert (tmp_path / "run" / "images" / "denoising_epoch=0001.png").is_file()
    module = load(tmp_path / "run" / "checkpoints" / "best.ckpt")
    assert isinstance(module, LatentDiffusion)
    assert module.latent_space.scaling.fitted
    assert module.normalization.fitted
    stage_1 = read(autoencoder)["state_dict"]
    for name, value in module.latent_space.first_stage.autoencoder.state_dict().items():
        assert torch.equal(value, stage_1[f"ema.model.{name}"])
    batch = training_batch(data_of(config), 2)
    with torch.no_grad():
        found = module.translate(batch["condition"], generators(batch["name"]))
    assert found.isfinite().all()
