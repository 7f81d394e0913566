"""Outputs of a training run, refused settings, and repeatability."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from omegaconf import OmegaConf

from helpers.training_setup import configuration, trouble
from pti.common.errors import DataError, UsageError
from pti.modules.adversarial_vae import AdversarialVAE
from pti.runs.checkpoint import load, read
from pti.runs.lock import exclusive
from pti.train.callbacks.loop_state import batches_done
from pti.train.callbacks.metrics_csv import read_metrics
from pti.train.run import build_parts, train


@pytest.fixture(scope="module")
def run(root, tmp_path_factory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("run")
    overrides = ("callbacks.checkpointer.keep_every_n_epochs=2", "callbacks.pictures.every_n_epochs=2")
    pictures = "callbacks.pictures={_target_:pti.train.callbacks.Pictures,every_n_epochs:2,images:2}"
    assert train(configuration(root, folder, overrides[0], pictures), folder) == 0
    return folder


def test_a_run_writes_its_files(run):
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert names >= {
        "config.yaml",
        "summary.json",
        "metrics.csv",
        "images/curves.png",
        "images/epoch=0001.png",
        "images/epoch=0003.png",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "checkpoints/last-1.ckpt",
        "checkpoints/epoch=0002-step=12.ckpt",
    }
    assert any(name.startswith("tensorboard/events") for name in names)
    rows = read_metrics(run / "metrics.csv")
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert [row["step"] for row in rows] == [6, 12, 18]
    assert all("val/l1" in row and "train/loss" in row for row in rows)


def test_optimizers_get_plain_settings(root, tmp_path):
    """Some versions of torch put them into checkpoints as they are."""
    plain: Any = OmegaConf.to_container(configuration(root, tmp_path), resolve=True)
    factories: Any = build_parts(plain)[1].optimizer_factories  # partial calls
    assert factories
    assert [type(factory.keywords["betas"]) for factory in factories] == [list] * len(factories)


def test_the_summary(run):
    summary = json.loads((run / "summary.json").read_text())
    figures, rows = summary["figures"], read_metrics(run / "metrics.csv")
    assert summary["status"] == "finished"
    assert summary["data_fingerprint"]
    assert figures["epochs"] == 3
    assert figures["steps"] == 18
    assert figures["best/val/l1"] == min(row["val/l1"] for row in rows)
    assert figures["last/val/l1"] == rows[-1]["val/l1"]
    assert all(isinstance(value, (int, float)) for value in figures.values())


def test_a_checkpoint_is_self_contained(run):
    content = read(run / "checkpoints" / "best.ckpt")
    assert content["config"]["model"]["_target_"].endswith("AdversarialVAE")
    assert content["data_fingerprint"]
    assert content["versions"]["torch"]
    module = load(run / "checkpoints" / "best.ckpt")
    assert not module.training
    weights = module.state_dict()
    assert all(
        torch.equal(weights[name], value)
        for name, value in content["state_dict"].items()
        if value is not None
    )
    raw = torch.rand(2, 1, 16, 16) * 500
    assert isinstance(module, AdversarialVAE)
    assert module(raw).shape == raw.shape


def test_weights_that_do_not_fit_are_refused(run, tmp_path):
    content = read(run / "checkpoints" / "best.ckpt")
    content["config"]["model"]["autoencoder"]["latent_channels"] = 3
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(DataError, match="don't fit"):
        load(tmp_path / "a.ckpt")


def test_the_same_seed_gives_the_same_bits(run, root, tmp_path):
    assert train(configuration(root, tmp_path), tmp_path) == 0
    one, other = (read(folder / "checkpoints" / "last.ckpt")["state_dict"] for folder in (run, tmp_path))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_another_checkpoint_branches_into_a_new_run(run, root, tmp_path):
    config = configuration(root, tmp_path, f"ckpt_path='{run}/checkpoints/epoch=0002-step=12.ckpt'")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != ".lock"}
    assert train(config, tmp_path) == 0
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != ".lock"} == before
    assert read_metrics(tmp_path / "metrics.csv") == read_metrics(run / "metrics.csv")[2:]


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("seed=1", "seed"),
        ("data.batch_size=6", "data.batch_size"),
        ("model.kl_weight=1", "model.kl_weight"),
        ("trainer.devices=2", "devices"),
    ],
)
def test_other_settings_are_refused_on_resume(run, root, override, named):
    config = configuration(root, run, override, f"ckpt_path='{run}/checkpoints/last.ckpt'")
    with pytest.raises(UsageError, match=rf"(?s)other settings.*{named}.*allow_config_changes"):
        train(config, run)


def test_other_settings_are_accepted_on_request(run, root, tmp_path):
    settings = ("data.batch_size=6", "allow_config_changes=true", "trainer.max_epochs=4")
    assert (
        train(configuration(root, tmp_path, *settings, f"ckpt_path='{run}/checkpoints/best.ckpt'"), tmp_path)
        == 0
    )


def test_a_damaged_checkpoint_is_replaced_loudly(root, tmp_path, capsys):
    assert train(configuration(root, tmp_path, "trainer.max_epochs=2"), tmp_path) == 0
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    assert train(configuration(root, tmp_path, f"ckpt_path='{last}'"), tmp_path) == 0
    assert "last-1.ckpt instead" in capsys.readouterr().err
    assert [row["epoch"] for row in read_metrics(tmp_path / "metrics.csv")] == [0, 1, 2]
    for path in (tmp_path / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"last\.ckpt"):
        train(configuration(root, tmp_path, f"ckpt_path='{last}'"), tmp_path)


def test_a_metric_that_is_never_logged(root, tmp_path):
    config = configuration(root, tmp_path, "callbacks.checkpointer.monitor=val/beauty")
    with pytest.raises(UsageError, match=r"val/beauty.*never logged.*val/l1"):
        train(config, tmp_path)
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "failed"


def test_training_ends_when_patience_ends_and_stays_ended(root, tmp_path, capsys):
    settings = ("trainer.max_epochs=9", "model.generator_optimizer.lr=0", "model.ema_decay=null")
    patience = "callbacks.checkpointer.patience=2"
    assert train(configuration(root, tmp_path, *settings, patience), tmp_path) == 0
    assert "none of the last 2 validations is better than that of epoch 1" in capsys.readouterr().out
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "finished"
    epochs = [row["epoch"] for row in read_metrics(tmp_path / "metrics.csv")]
    assert epochs == [0, 1, 2]
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert train(configuration(root, tmp_path, *settings, patience, f"ckpt_path='{last}'"), tmp_path) == 0
    assert [row["epoch"] for row in read_metrics(tmp_path / "metrics.csv")] == epochs


def test_of_several_metrics_the_first_that_is_logged_selects_the_best(root, tmp_path):
    monitor = "callbacks.checkpointer.monitor=[val/beauty,val/psnr]"
    assert train(configuration(root, tmp_path, monitor, "callbacks.checkpointer.mode=max"), tmp_path) == 0
    best = json.loads((tmp_path / "summary.json").read_text())["figures"]
    psnr = [row["val/psnr"] for row in read_metrics(tmp_path / "metrics.csv")]
    assert best["best/val/psnr"] == pytest.approx(max(psnr))


@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_validation_start"])
def test_weights_of_nan_are_not_saved(root, tmp_path, hook):
    with pytest.raises(DataError, match=r"not finite.*lr.*gradient_clip_val"):
        train(
            configuration(root, tmp_path, trouble(hook, "poison", 2 if "validation" in hook else 8)), tmp_path
        )
    for path in (tmp_path / "checkpoints").glob("*.ckpt"):
        assert all(bool(torch.isfinite(value).all()) for value in read(path)["state_dict"].values())
        assert read(path)["batches_done"] == 6


def test_an_exception_in_validation_leaves_live_weights(run, root, tmp_path):
    with pytest.raises(ValueError, match="trouble"):
        train(configuration(root, tmp_path, trouble("on_validation_batch_end", "raise", call=2)), tmp_path)
    saved = read(tmp_path / "checkpoints" / "last.ckpt")["state_dict"]
    assert train(configuration(root, tmp_path / "short", "trainer.max_epochs=1"), tmp_path / "short") == 0
    expected = read(tmp_path / "short" / "checkpoints" / "last.ckpt")["state_dict"]
    assert all(torch.equal(saved[name], expected[name]) for name in expected)


def test_an_unwritable_folder_fails_before_the_first_step(root, tmp_path):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(DataError, match="can't be written"):
        train(configuration(root, tmp_path), tmp_path)
    assert not (tmp_path / "metrics.csv").exists()


def test_a_folder_belongs_to_one_process(root, tmp_path):
    with exclusive(tmp_path, "held"), pytest.raises(DataError, match="another process"):
        train(configuration(root, tmp_path), tmp_path)


def test_saves_and_averages_are_counted_in_batches(root, tmp_path, monkeypatch):
    saves = []
    original = Trainer.save_checkpoint

    def recorded(self, path, *rest, **named):
        saves.append((Path(path).stem, batches_done(self)))
        original(self, path, *rest, **named)

    monkeypatch.setattr(Trainer, "save_checkpoint", recorded)
    settings = ("model.disc_start=3", "model.ema_update_every=10", "callbacks.checkpointer.every_n_steps=5")
    assert train(configuration(root, tmp_path, *settings), tmp_path) == 0
    assert [step for name, step in saves if name == "last"] == [5, 6, 10, 12, 15, 18]
    content = read(tmp_path / "checkpoints" / "last.ckpt")
    assert content["global_step"] == content["batches_seen"] == 18
    weights = content["state_dict"]
    averaged = [
        name for name in weights if name.startswith("ema.model.") and weights[name].is_floating_point()
    ]
    initial = read(tmp_path / "checkpoints" / "best.ckpt")
    assert initial is not None
    # One update, after step 10: neither the live weights nor the initial ones.
    assert any(
        not torch.equal(weights[name], weights[name.replace("ema.model.", "autoencoder.")])
        for name in averaged
    )


def test_resuming_a_finished_run_changes_no_weight(run, root, capsys):
    weights = read(run / "checkpoints" / "last.ckpt")["state_dict"]
    assert train(configuration(root, run, f"ckpt_path='{run}/checkpoints/last.ckpt'"), run) == 0
    again = read(run / "checkpoints" / "last.ckpt")["state_dict"]
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_a_run_is_not_overwritten(run, root):
    for more in ((), (f"ckpt_path='{run}/checkpoints/best.ckpt'",)):
        with pytest.raises(UsageError, match="another run"):
            train(configuration(root, run, *more), run)
    assert json.loads((run / "summary.json").read_text())["status"] == "finished"
