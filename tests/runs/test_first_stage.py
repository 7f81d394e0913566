"""Transfer of the autoencoder into the second stage: what fits is copied, what does not is refused."""

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from helpers.second_stage_setup import arguments, configuration, module_of, save_autoencoder
from helpers.training_setup import SIZE, run
from pti.common.errors import UsageError
from pti.runs.checkpoint import CheckpointError, read
from pti.runs.first_stage import embed_first_stage_config
from pti.train.__main__ import preflight
from pti.train.run import train

pytestmark = pytest.mark.usefixtures("without_curves")

FEW = ("trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.num_sanity_val_steps=0")


@pytest.fixture(scope="module")
def composed(root: Path, autoencoder: Path) -> DictConfig:
    """The configuration of a second stage."""
    return configuration(root, root.parent / "unused", f"autoencoder_ckpt='{autoencoder}'")


def take(config: DictConfig, **changes: Any) -> tuple[dict[str, Any], Any]:
    """The configuration as it is left, and the weights; ``changes`` by key, with __ for a dot."""
    plain: Any = OmegaConf.to_container(changed(config, **changes))
    return plain, embed_first_stage_config(plain)


def changed(config: DictConfig, **changes: Any) -> DictConfig:
    config = copy.deepcopy(config)
    for key, value in changes.items():
        value = str(value) if isinstance(value, Path) else value
        OmegaConf.update(config, key.replace("__", "."), value, merge=False)
    return config


@pytest.fixture(scope="module")
def stage_2(root: Path, composed: DictConfig) -> Path:
    """The checkpoint of a second stage, and what can stand in for it."""
    folder = root.parent / "stage_2" / "checkpoints"
    folder.mkdir(parents=True)
    plain, _ = take(composed)
    for name in ("last.ckpt", "last-1.ckpt"):
        torch.save({"config": plain, "state_dict": {}}, folder / name)
    return folder / "last.ckpt"


def test_configuration_and_weights_are_taken_over(composed: DictConfig, autoencoder: Path):
    plain, weights = take(composed)
    content = read(autoencoder)
    first_stage = plain["model"]["first_stage"]
    assert "normalization" not in plain["model"]
    for part in ("autoencoder", "normalization"):
        assert first_stage[part] == content["config"]["model"][part]
    for name, value in weights.items():
        source = f"ema.model.{name.removeprefix('autoencoder.')}" if name.startswith("autoencoder.") else name
        assert torch.equal(value, content["state_dict"][source])
    module = module_of(composed)
    assert module.normalization.fitted
    assert set(weights) == set(module.latent_space.first_stage.state_dict())


def test_without_an_average_the_weights_themselves_are_taken(
    composed: DictConfig, autoencoder: Path, tmp_path: Path
):
    content = read(autoencoder)
    state = {name: value for name, value in content["state_dict"].items() if not name.startswith("ema.")}
    torch.save(content | {"state_dict": state}, tmp_path / "best.ckpt")
    _, weights = take(composed, autoencoder_ckpt=tmp_path / "best.ckpt")
    assert weights
    assert all(torch.equal(value, state[name]) for name, value in weights.items())


def test_a_regression_in_pixels_needs_none(composed: DictConfig):
    model: dict[str, Any] = {
        "_target_": "pti.modules.regression.Regression",
        "normalization": {"_target_": "x"},
    }
    plain, weights = take(composed, model=model)
    assert weights is None
    assert plain["model"] == model


def test_none_named(composed: DictConfig):
    with pytest.raises(UsageError, match=r"autoencoder_ckpt is not set.*best:vae_baseline"):
        take(composed, autoencoder_ckpt=None)


def test_a_missing_file(composed: DictConfig):
    config = changed(composed, autoencoder_ckpt="nowhere/best.ckpt")
    for look in (take, preflight):
        with pytest.raises(UsageError, match=r"nowhere/best\.ckpt: there is no such checkpoint"):
            look(config)


def test_an_experiment_that_was_never_trained(
    composed: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"best:vae_demo.*train first"):
        preflight(changed(composed, autoencoder_ckpt="best:vae_demo"))


def test_the_best_of_the_newest_run(
    composed: DictConfig, autoencoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "outputs" / "vae_demo" / "2026-01-01_00-00-00" / "checkpoints"
    folder.mkdir(parents=True)
    shutil.copy(autoencoder, folder / "best.ckpt")
    _, weights = take(composed, autoencoder_ckpt="best:vae_demo")
    assert weights


def test_a_damaged_file(composed: DictConfig, autoencoder: Path, tmp_path: Path):
    damaged = tmp_path / "damaged.ckpt"
    damaged.write_bytes(autoencoder.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"damaged\.ckpt"):
        take(composed, autoencoder_ckpt=damaged)


def test_another_file(composed: DictConfig, tmp_path: Path):
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(UsageError, match=r"other\.ckpt: expected a checkpoint of `python -m pti\.train`"):
        take(composed, autoencoder_ckpt=tmp_path / "other.ckpt")


def test_a_checkpoint_of_the_wrong_stage(composed: DictConfig, stage_2: Path):
    with pytest.raises(UsageError, match=r"found pti.*LatentDiffusion, expected .*AdversarialVAE"):
        take(composed, autoencoder_ckpt=stage_2)


def test_a_checkpoint_that_names_other_code(composed: DictConfig, autoencoder: Path, tmp_path: Path):
    content = read(autoencoder)
    content["config"]["model"]["autoencoder"]["_target_"] = "os.system"
    torch.save(content, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match=r"os\.system"):
        take(composed, autoencoder_ckpt=tmp_path / "evil.ckpt")


def test_another_normalization(composed: DictConfig):
    with pytest.raises(UsageError, match=r"MaskedZScore is configured.*trained with .*RangeNormalization"):
        take(composed, model__normalization={"_target_": "pti.data.normalization.MaskedZScore"})


def test_another_number_of_channels(composed: DictConfig, tmp_path: Path):
    with pytest.raises(InstantiationException, match=r"latent_channels=3.* 4 channels") as caught:
        train(changed(composed, model__network__latent_channels=3), tmp_path)
    assert isinstance(caught.value.__cause__, UsageError)  # what the command then shows


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("data__image_size", SIZE + 2, r"data\.image_size=18.*multiple of 4.*data\.image_size=20"),
        ("data__sources", "both", r"data\.sources=both.*data\.sources=pairs"),
    ],
)
def test_data_that_does_not_fit(composed: DictConfig, tmp_path: Path, key: str, value: Any, named: str):
    with pytest.raises(UsageError, match=named):
        train(changed(composed, **{key: value}), tmp_path)


def test_another_split_is_warned_of(
    composed: DictConfig, autoencoder: Path, capsys: pytest.CaptureFixture[str]
):
    take(composed)
    assert capsys.readouterr().err == ""
    take(composed, data__split_seed=1)
    message = capsys.readouterr().err
    assert "Warning" in message
    assert "data.split_seed=1, there 0" in message
    assert str(autoencoder) in message


def test_a_damaged_last_checkpoint_is_stood_in_for(composed: DictConfig, stage_2: Path, tmp_path: Path):
    folder = tmp_path / "run" / "checkpoints"
    shutil.copytree(stage_2.parent, folder)
    expected = read(folder / "last.ckpt")["config"]["model"]["first_stage"]
    (folder / "last.ckpt").write_bytes(b"damaged")
    plain, weights = take(composed, ckpt_path=folder / "last.ckpt")
    assert plain["model"]["first_stage"] == expected
    assert weights is None
    (folder / "last-1.ckpt").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"last\.ckpt"):
        take(composed, ckpt_path=folder / "last.ckpt")


def test_going_on_from_the_wrong_stage(composed: DictConfig, autoencoder: Path):
    with pytest.raises(UsageError, match=r"ckpt_path.*AdversarialVAE, expected a checkpoint of stage 2"):
        take(composed, ckpt_path=autoencoder, allow_config_changes=True)


@pytest.mark.slow
def test_a_resumed_run_keeps_its_own_autoencoder(root: Path, autoencoder: Path, tmp_path: Path):
    folder = tmp_path / "run"
    assert train(configuration(root, folder, f"autoencoder_ckpt='{autoencoder}'", *FEW), folder) == 0
    last = folder / "checkpoints" / "last.ckpt"
    other = save_autoencoder(root, tmp_path / "other" / "best.ckpt", "seed=7")
    content = torch.load(other, weights_only=True)
    for value in content["state_dict"].values():
        value.fill_(0)
    torch.save(content, other)
    before = read(last)["state_dict"]
    overrides = (f"autoencoder_ckpt='{other}'", f"ckpt_path='{last}'", *FEW[1:])
    assert train(configuration(root, folder, *overrides), folder) == 0
    after = read(last)
    kept = [name for name in before if name.startswith("latent_space.") and before[name] is not None]
    assert kept
    assert all(torch.equal(after["state_dict"][name], before[name]) for name in kept)
    trained = [name for name in before if name.startswith("network.")]
    assert any(not torch.equal(after["state_dict"][name], before[name]) for name in trained)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("autoencoder_ckpt=nowhere/best.ckpt", ["nowhere/best.ckpt"]),
        ("model.network.latent_channels=3", ["latent_channels=3", "4 channels"]),
        ("model/normalization=masked_zscore", ["MaskedZScore", "RangeNormalization"]),
        ("data.image_size=18", ["data.image_size=18", "data.image_size=20"]),
    ],
)
def test_the_command_refuses_with_exit_2(
    root: Path, autoencoder: Path, tmp_path: Path, override: str, named: list[str]
):
    code, output = run(
        tmp_path, *arguments(root, f"autoencoder_ckpt={autoencoder}", override, "output_dir=run")
    )
    assert code == 2, output
    assert all(word in output for word in named), output
    assert "Traceback" not in output
