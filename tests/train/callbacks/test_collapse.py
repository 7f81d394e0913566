"""Detection of collapsed models: what is said, when, and what it does to a run."""

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch.utils.data import default_collate

from helpers import second_stage_setup
from helpers.forks import run
from helpers.second_stage_setup import save_autoencoder
from helpers.tiny_vae import Images, equal, fit, tiny_vae, weights
from helpers.training_setup import arguments, configuration, make_images
from pti.common.errors import DataError
from pti.losses import hinge, lsgan
from pti.runs.checkpoint import read
from pti.runs.locate import collapse_of
from pti.train.callbacks.collapse import MIN_MOVED, MIN_STEPS, WINDOW, Evidence, falls, grows
from pti.train.callbacks.collapse_discriminator import (
    adversarial_gradient,
    chance_loss,
    describe_win,
    has_won,
)
from pti.train.resume import find_changes
from pti.train.run import train

RANDOM = np.random.default_rng(0)
NOISE = RANDOM.normal(1.0, 0.2, WINDOW).clip(0.1).tolist()
FLAT = {"variation": [1e-8 * value for value in NOISE], "reconstruction": NOISE}
BLACK = Evidence({"variation": 1e-9, "l1_vs_constant": 1.02}, MIN_STEPS, MIN_MOVED, FLAT)
NO_BETTER = Evidence({"variation": 0.9, "loss_vs_constant": 1.0}, MIN_STEPS, 0.0, {"loss": NOISE})
RISING = {"variation": np.geomspace(1e-6, 1e-4, WINDOW).tolist(), "reconstruction": NOISE}
FALLING = np.linspace(3.0, 1.0, WINDOW).tolist()


@pytest.mark.parametrize("evidence", [BLACK, NO_BETTER])
def test_a_model_that_stays_at_the_baseline_has_collapsed(evidence):
    assert evidence.collapsed
    assert not replace(evidence, steps=MIN_STEPS - 1).collapsed


def test_an_autoencoder_that_could_not_move_yet_has_not():
    assert BLACK.at_baseline
    assert not replace(BLACK, moved=0.9 * MIN_MOVED).collapsed


def test_a_model_on_its_way_from_the_baseline_has_not():
    assert not replace(BLACK, recent=RISING).collapsed
    assert not replace(NO_BETTER, recent={"loss": FALLING}).collapsed


def test_a_black_autoencoder_whose_error_still_falls_has():
    """It becomes blacker: only outputs that differ between images are a sign of learning."""
    assert replace(BLACK, recent=FLAT | {"reconstruction": FALLING}).collapsed


@pytest.mark.parametrize(
    "metrics",
    [
        {"variation": 0.9, "l1_vs_constant": 0.2},
        {"variation": 0.9, "loss_vs_constant": 0.9},
        {"loss_vs_constant": 0.9},  # no validation image was translated
    ],
)
def test_a_model_that_has_learned_something_is_not_accused(metrics):
    evidence = Evidence(metrics, 10_000, 10.0, FLAT | {"loss": NOISE})
    assert not evidence.at_baseline
    assert not evidence.collapsed


def test_the_trends():
    assert grows(np.geomspace(1.0, 10.0, WINDOW).tolist())
    assert not grows(NOISE)
    assert not grows([0.0] * WINDOW)
    assert falls(FALLING)
    assert not falls(NOISE)
    assert not falls(FALLING[::-1])
    assert not falls([])
    assert not grows([])


@pytest.mark.parametrize(
    ("evidence", "model", "key"),
    [
        (
            BLACK,
            {"kl_weight": 1e-6, "generator_optimizer": {"lr": 3e-2}},
            "model.generator_optimizer.lr=0.0003",
        ),
        (
            BLACK,
            {"kl_weight": 1e-6, "generator_optimizer": {"lr": 1e-3}},
            "model.generator_optimizer.lr=0.0003",
        ),
        (BLACK, {"kl_weight": 1e3, "generator_optimizer": {"lr": 1e-3}}, "model.kl_weight=1e-6"),
        (NO_BETTER, {"optimizer": {"lr": 1.0}}, "model.optimizer.lr=0.0003"),
        (NO_BETTER, {"optimizer": {"lr": 0.0}}, "model.optimizer.lr=1e-4"),
    ],
)
def test_the_message_names_number_and_key(evidence, model, key):
    text = evidence.describe(model)
    assert f"Start again with {key} (" in text
    assert ("1e-09" in text) == evidence.alike
    assert "no better than a constant" in text


@pytest.mark.parametrize(
    ("weight", "rate", "expected"),
    [
        (1e-6, 1e-3, ["model/reconstruction=l2"]),
        (
            1e3,
            3e-2,
            ["model/reconstruction=l2", "model.kl_weight=1e-6", "model.generator_optimizer.lr=0.0003"],
        ),
    ],
)
def test_background_is_called_so_and_l1_is_blamed(weight, rate, expected):
    model = {
        "reconstruction": {"_target_": "pti.losses.l1"},
        "kl_weight": weight,
        "generator_optimizer": {"lr": rate},
    }
    text = BLACK.describe(model, background=True)
    assert "its reconstructions are all background" in text
    assert re.findall(r"with (\S+=\S+)", text) == expected
    for other in (
        BLACK.describe(model),
        BLACK.describe(model | {"reconstruction": {"_target_": "pti.losses.l2"}}, True),
    ):
        assert "l2" not in other


@pytest.fixture
def root(tmp_path):
    return make_images(tmp_path / "images")


COLLAPSING = ("model.kl_weight=1e3", "trainer.max_epochs=60", "trainer.check_val_every_n_epoch=20")


@pytest.mark.slow
def test_a_forced_collapse_ends_the_run_with_a_checkpoint_that_resumes(root, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(DataError, match=r"collapsed.*all alike.*model\.kl_weight=1e-6.*last\.ckpt is saved"):
        train(configuration(root, out, *COLLAPSING), out)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert "all alike" in summary["collapsed"]
    last = out / "checkpoints" / "last.ckpt"
    content = read(last)
    assert content["batches_done"] == 240  # 40 epochs: the first validation after MIN_STEPS
    going_on: Any = OmegaConf.to_container(configuration(root, out, *COLLAPSING, "stop_on_collapse=false"))
    assert find_changes(content, going_on, world_size=1) == {}
    settings = (
        "model.kl_weight=1e-6",
        "allow_config_changes=true",
        "trainer.max_epochs=41",
        f"ckpt_path={last}",
    )
    train(configuration(root, out, *COLLAPSING, *settings), out)
    assert collapse_of(out) == ""


@pytest.mark.slow
def test_without_stopping_it_is_only_said(root, tmp_path, capsys):
    out = tmp_path / "run"
    settings = (*COLLAPSING, "stop_on_collapse=false")
    assert train(configuration(root, out, *settings), out) == 0
    assert capsys.readouterr().err.count("Warning: The model has collapsed") == 2
    assert "all alike" in collapse_of(out)


@pytest.mark.slow
def test_a_second_stage_that_predicts_a_constant_is_noticed(root, tmp_path):
    autoencoder = save_autoencoder(root, tmp_path / "vae.ckpt")
    settings = ["model.optimizer.lr=0.0", "trainer.max_epochs=60", "trainer.check_val_every_n_epoch=20"]
    out = tmp_path / "run"
    config = second_stage_setup.configuration(root, out, *settings, f"autoencoder_ckpt={autoencoder}")
    with pytest.raises(DataError, match=r"collapsed.*constant prediction.*model\.optimizer\.lr="):
        train(config, out)


@pytest.mark.slow
def test_two_processes_end_together(root, tmp_path):
    words = ("trainer=ddp_cpu", "trainer.devices=2", "data.batch_size=2", f"output_dir={tmp_path / 'run'}")
    code, output = run(
        tmp_path, *arguments(root, *COLLAPSING, *words), module="helpers.forked_ranks", timeout=300
    )
    assert code == 1
    assert output.count("The model has collapsed") == 1


@pytest.mark.slow
def test_a_tiny_healthy_run_is_not_accused(root, tmp_path):
    out = tmp_path / "run"
    settings = ("trainer.max_epochs=60", "trainer.check_val_every_n_epoch=20")
    assert train(configuration(root, out, *settings), out) == 0
    assert collapse_of(out) == ""


def test_a_discriminator_that_is_never_wrong_and_teaches_nothing_has_won():
    losses = [1e-4] * WINDOW
    assert chance_loss(lsgan()) == pytest.approx(0.25)
    assert chance_loss(hinge()) == pytest.approx(1.0)
    assert has_won(losses, 0.25, gradient=1e-3)
    assert not has_won([*losses, 0.1], 0.25, gradient=1e-3)
    assert not has_won(losses, 0.25, gradient=0.1)
    assert not has_won([], 0.25, gradient=0.0)
    text = describe_win(losses, 0.25, 1e-3, {"discriminator_optimizer": {"lr": 1e-2}})
    assert "model.discriminator_optimizer.lr=0.001 (now 0.01)" in text


def test_the_gradient_of_the_discriminator_is_measured_without_a_trace():
    module = tiny_vae(adv_weight=0.5)
    fit(module)
    module.eval()
    raw = default_collate([Images(4)[index] for index in range(4)])["image"]
    before = weights(module)
    with torch.inference_mode():
        measured = adversarial_gradient(module, raw)
        module.adv_weight = 1.0
        assert adversarial_gradient(module, raw.clone()) == pytest.approx(2 * measured)
    assert equal(weights(module), before)
    assert all(parameter.grad is None for parameter in module.parameters())
    with torch.no_grad():
        for parameter in module.discriminator.parameters():
            parameter.zero_()
    assert adversarial_gradient(module, raw) == 0
