"""The deterministic baselines, in pixels and in latents."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.second_stage_setup import (
    LATENT_REGRESSION,
    REGRESSION,
    data_of,
    fill_zeros,
    generators,
    module_of,
    one_step,
    trained,
    training_batch,
)
from helpers.training_setup import configuration
from pti.modules.regression import LatentRegression, Regression
from pti.modules.translation import Translation
from pti.runs.checkpoint import load
from pti.train.callbacks.metrics_csv import read_metrics

KINDS = [
    pytest.param(REGRESSION, Regression, id="pixels"),
    pytest.param(LATENT_REGRESSION, LatentRegression, id="latents"),
]


def config_of(root: Path, folder: Path, autoencoder: Path, base: Sequence[str], *overrides: str) -> Any:
    link = [] if base is REGRESSION else [f"autoencoder_ckpt='{autoencoder}'"]
    return configuration(root, folder, *link, *overrides, base=base)


@pytest.fixture(scope="module", params=["pixels", "latents"])
def fitted(request: pytest.FixtureRequest, root: Path, autoencoder: Path) -> tuple[Any, dict[str, Any]]:
    """The module, its normalisation fitted, and a batch."""
    base = {"pixels": REGRESSION, "latents": LATENT_REGRESSION}[request.param]
    config = config_of(root, root.parent / "unused", autoencoder, base)
    module, data = module_of(config), data_of(config)
    if not module.normalization.fitted:
        module.normalization.fit(data.training_images())
    return module, training_batch(data)


@torch.no_grad()
def test_a_new_network_changes_nothing(fitted):
    module, batch = copy.deepcopy(fitted[0]), fitted[1]
    assert module.deterministic
    raw = batch["condition"]
    found = module.translate(raw, generators(batch["name"]))
    if isinstance(module, LatentRegression):
        latents = module.latent_space.first_stage.encode(raw)
        expected = module.latent_space.first_stage.decode(latents.mean, module.normalization.statistics(raw))
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=0.1)
        pair = [module.latent_space.first_stage.encode(batch[name]).mean for name in ("condition", "target")]
        condition, target = (module.latent_space.scaling.normalize(latents) for latents in pair)
        expected = (condition - target).square().mean((1, 2, 3))
    else:
        torch.testing.assert_close(found, raw, rtol=1e-4, atol=1e-2)
        assert torch.equal(found == 0, raw == 0)
        statistics = module.normalization.statistics(raw)
        condition, target = (
            module.normalization.normalize(batch[n], statistics) for n in ("condition", "target")
        )
        expected = (condition - target).abs().mean((1, 2, 3))
    torch.testing.assert_close(module.validation_loss(batch)[0], expected)


@torch.no_grad()
def test_images_may_repeat(fitted):
    module, batch = fitted
    one = module.translate(batch["condition"], [])
    torch.testing.assert_close(module.translate(batch["condition"], [], images=[1, 0, 1]), one[[1, 0, 1]])


@torch.no_grad()
def test_one_answer_whatever_the_generators_and_the_batch(fitted):
    module, batch = copy.deepcopy(fitted[0]), fitted[1]
    fill_zeros(module)
    raw, names = batch["condition"], batch["name"]
    found = module.translate(raw, generators(names))
    assert torch.equal(module.translate(raw, generators(names, sample=1), steps=7, guidance_scale=2.0), found)
    torch.testing.assert_close(module.translate(raw[2:3], []), found[2:3], rtol=1e-4, atol=0.1)
    assert found.isfinite().all()
    assert not torch.allclose(found, raw, rtol=1e-2)


def test_steps_lower_the_loss(fitted):
    module, batch = copy.deepcopy(fitted[0]), fitted[1]
    tissue = 400 + 100 * torch.rand(batch["condition"].shape, generator=torch.Generator().manual_seed(0))
    batch = batch | {"condition": tissue, "target": tissue + 100}
    losses = [one_step(module, batch) for _ in range(5)]
    assert losses[-1] < losses[0], losses


@pytest.mark.slow
@pytest.mark.parametrize(("base", "kind"), KINDS)
def test_it_trains_and_its_checkpoint_translates(root, autoencoder, tmp_path, base, kind):
    overrides = (
        "trainer.max_epochs=3",
        "model.optimizer.lr=0.01",
        "model.ema_decay=0.5",
        "model.bone_metrics=true",
    )
    pictures = "callbacks.pictures={_target_:pti.train.callbacks.Pictures,images:2}"
    config = config_of(root, tmp_path, autoencoder, base, *overrides, pictures)
    rows = read_metrics(trained(config, tmp_path) / "metrics.csv")
    assert rows[-1]["val/loss"] < rows[0]["val/loss"]
    figures = ("loss", "l1", "psnr", "ssim", "bone_dice", "bone_height_error_mm")
    assert {f"val/{name}" for name in figures} <= rows[-1].keys()
    assert (tmp_path / "images" / "epoch=0001.png").is_file()
    module = load(tmp_path / "checkpoints" / "best.ckpt")
    assert isinstance(module, kind)
    assert isinstance(module, Translation)
    batch = training_batch(data_of(config))
    with torch.no_grad():
        found = module.translate(batch["condition"], [])
    assert found.isfinite().all()
    assert (found == 0).any()
