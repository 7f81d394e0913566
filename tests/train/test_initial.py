"""Weights that a run starts from: what is copied, what is skipped and listed, and what is refused."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from monai.networks.nets.autoencoderkl import AutoencoderKL
from omegaconf import OmegaConf
from safetensors.torch import save_file

from helpers import second_stage_setup
from helpers.second_stage_setup import REGRESSION
from helpers.training_setup import configuration
from pti.common.errors import DataError, UsageError
from pti.modules.adversarial_vae import AdversarialVAE
from pti.runs.checkpoint import CheckpointError, read
from pti.runs.weights import Weights, open_weights
from pti.train.initial import prepare_weights, start_from
from pti.train.run import train

NO_STEP = ("trainer.max_epochs=1", "model.generator_optimizer.lr=0", "model.discriminator_optimizer.lr=0")


@pytest.fixture(scope="module")
def plain(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The configuration of a tiny stage 1 with an average."""
    config: Any = OmegaConf.to_container(configuration(root, tmp_path_factory.mktemp("unused")))
    return config


def new_vae(plain: dict[str, Any], seed: int = 1, **autoencoder: Any) -> AdversarialVAE:
    model = copy.deepcopy(plain["model"])
    model["autoencoder"] |= autoencoder
    torch.manual_seed(seed)
    return instantiate(model)


def opened(tensors: dict[str, Any], folder: Path, name: str = "weights.pth") -> Weights:
    torch.save(tensors, folder / name)
    return open_weights(folder / name)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(*pair) for pair in pairs)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state},
        lambda state: {"epoch": 3, "autoencoder_state_dict": state, "optimizer_g_state_dict": {"state": {}}},
        lambda state: {f"module.{name}": value for name, value in state.items()},
    ],
)
def test_a_plain_autoencoder_goes_into_the_generator_and_its_average(plain, tmp_path, wrap):
    other, module = new_vae(plain, seed=2), new_vae(plain)
    assert not same(module.autoencoder, other.autoencoder)
    before = copy.deepcopy(module.discriminator)
    copied = start_from(module, opened(wrap(other.autoencoder.state_dict()), tmp_path), plain)
    assert same(module.autoencoder, other.autoencoder)
    assert module.ema is not None
    assert same(module.ema.model, other.autoencoder)
    assert same(module.discriminator, before)
    assert copied.skipped == ()
    assert "discriminator: new" in copied.summary


def test_safetensors(plain, tmp_path):
    other, module = new_vae(plain, seed=2), new_vae(plain)
    save_file(other.autoencoder.state_dict(), tmp_path / "weights.safetensors")
    start_from(module, open_weights(tmp_path / "weights.safetensors"), plain)
    assert same(module.autoencoder, other.autoencoder)
    (tmp_path / "weights.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(CheckpointError, match="damaged"):
        open_weights(tmp_path / "weights.safetensors")


def test_generator_and_discriminator_from_one_file(plain, tmp_path):
    other, module = new_vae(plain, seed=2), new_vae(plain)
    states = {
        "autoencoder_state_dict": other.autoencoder.state_dict(),
        "discriminator_state_dict": other.discriminator.state_dict(),
    }
    start_from(module, opened(states, tmp_path), plain)
    assert same(module.autoencoder, other.autoencoder)
    assert same(module.discriminator, other.discriminator)


def test_what_does_not_fit_is_skipped_and_listed(plain, tmp_path):
    other, module = new_vae(plain, seed=2, latent_channels=7), new_vae(plain)
    before = copy.deepcopy(module.autoencoder.quant_conv_mu)
    state = other.autoencoder.state_dict() | {"extra.weight": torch.zeros(2)}
    del state["encoder.blocks.0.conv.bias"]
    copied = start_from(module, opened(state, tmp_path), plain)
    text = "\n".join(copied.skipped)
    assert (
        "autoencoder.quant_conv_mu.conv: 2 weights of another shape ([7, 7, 1, 1] in the file, here [" in text
    )
    assert "autoencoder.encoder.blocks.0: 1 weight not in the file" in text
    assert "autoencoder.extra: 1 weight only in the file" in text
    assert same(module.autoencoder.quant_conv_mu, before)
    kernel = "decoder.blocks.1.conv1.conv.weight"
    assert torch.equal(module.autoencoder.state_dict()[kernel], state[kernel])
    with pytest.raises(UsageError, match="init_strict=true"):
        start_from(new_vae(plain), opened(state, tmp_path), plain, strict=True)


def test_weights_of_something_else_are_refused(plain, tmp_path):
    with pytest.raises(UsageError, match=r"none of its 1 weights fits[\s\S]*lin[\s\S]*autoencoder\.encoder"):
        start_from(new_vae(plain), opened({"lin.weight": torch.zeros(2, 2)}, tmp_path), plain)
    with pytest.raises(CheckpointError, match="found no tensor"):
        opened({"epoch": 3}, tmp_path)
    with pytest.raises(CheckpointError, match=r"torch\.save\(model\.state_dict\(\), FILE\)"):
        opened({"model": torch.nn.Linear(2, 2)}, tmp_path)
    state = new_vae(plain).autoencoder.state_dict()
    state["encoder.blocks.0.conv.bias"].fill_(torch.nan)
    with pytest.raises(DataError, match=r"encoder\.blocks\.0\.conv\.bias"):
        start_from(new_vae(plain), opened(state, tmp_path), plain)


def test_a_run_starts_from_the_averaged_weights_of_a_checkpoint(root, plain, tmp_path):
    first = tmp_path / "first"
    assert train(configuration(root, first, "trainer.max_epochs=1"), first) == 0
    path = first / "checkpoints" / "last.ckpt"
    second = tmp_path / "second"
    settings = ("data.fractions=[0.6,0.2,0.2]", f"init_from='{path}'", *NO_STEP)
    assert train(configuration(root, second, *settings), second) == 0
    old, new = read(path), read(second / "checkpoints" / "last.ckpt")
    averages = {name: v for name, v in old["state_dict"].items() if name.startswith("ema.model.")}
    assert averages
    for name, value in averages.items():
        assert torch.equal(new["state_dict"][name.replace("ema.model.", "autoencoder.")], value)
    assert new["batches_seen"] == old["batches_seen"]  # one epoch each: nothing was counted on
    summary = json.loads((second / "summary.json").read_text())
    assert summary["figures"]["start/autoencoder_psnr"] > 0
    assert str(path) in json.dumps(summary)


def test_the_command_line_with_init_from_resumes(root, tmp_path, capsys):
    weights = tmp_path / "weights.pth"
    config = configuration(root, tmp_path / "unused")
    torch.save(instantiate(config.model).autoencoder.state_dict(), weights)
    run = tmp_path / "run"
    settings = (f"init_from='{weights}'", "freeze=[encoder]")
    assert train(configuration(root, run, *settings, "trainer.max_epochs=1"), run) == 0
    weights.unlink()
    last = f"ckpt_path='{run}/checkpoints/last.ckpt'"
    assert train(configuration(root, run, *settings, "trainer.max_epochs=2", last), run) == 0
    assert "init_from has no effect on it" in capsys.readouterr().out
    with pytest.raises(UsageError, match="freeze"):
        train(configuration(root, run, f"init_from='{weights}'", "trainer.max_epochs=3", last), run)


def test_a_second_stage_brings_its_autoencoder(root, autoencoder, tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    few = ("trainer.max_epochs=1", "trainer.limit_train_batches=1")
    link = f"autoencoder_ckpt='{autoencoder}'"
    assert train(second_stage_setup.configuration(root, first, link, *few), first) == 0
    assert "The autoencoder on 1 validation patient: PSNR " in capsys.readouterr().out
    origin = f"init_from='{first}/checkpoints/last.ckpt'"
    settings = (origin, "autoencoder_ckpt=null", "model.optimizer.lr=0", *few)
    assert train(second_stage_setup.configuration(root, second, *settings), second) == 0
    old, new = (read(run / "checkpoints" / "last.ckpt")["state_dict"] for run in (first, second))
    for name, value in new.items():
        if name.startswith("latent_space.first_stage."):
            assert torch.equal(old[name], value), name
        if name.startswith("network."):
            assert torch.equal(old[name.replace("network.", "ema.model.", 1)], value), name


def test_another_autoencoder_is_said(root, autoencoder, tmp_path, capsys):
    config = second_stage_setup.configuration(root, tmp_path, f"autoencoder_ckpt='{autoencoder}'")
    module = second_stage_setup.module_of(config)
    plain: Any = OmegaConf.to_container(config)
    state = {name: value.clone() for name, value in module.state_dict().items()}
    content = {"config": plain, "state_dict": state}
    torch.save(content, tmp_path / "same.ckpt")
    state["latent_space.first_stage.autoencoder.encoder.blocks.0.conv.bias"] += 1
    torch.save(content, tmp_path / "other.ckpt")
    for name, expected in (("same", False), ("other", True)):
        prepare_weights(module, open_weights(tmp_path / f"{name}.ckpt"), plain)
        assert ("the latents of another autoencoder" in capsys.readouterr().err) == expected


def test_a_first_stage_does_not_fit_a_regression(root, autoencoder, tmp_path):
    config = second_stage_setup.configuration(root, tmp_path, base=REGRESSION)
    plain: Any = OmegaConf.to_container(config)
    with pytest.raises(UsageError, match="a trained autoencoder belongs in autoencoder_ckpt"):
        start_from(instantiate(config.model), open_weights(autoencoder), plain)


def test_monai_weights_reconstruct_as_monai(plain, tmp_path):
    settings = {key: value for key, value in plain["model"]["autoencoder"].items() if key != "_target_"}
    torch.manual_seed(3)
    original, module = AutoencoderKL(**settings).eval(), new_vae(plain)
    torch.save(original.state_dict(), tmp_path / "monai.pt")
    start_from(module, open_weights(tmp_path / "monai.pt"), plain)
    image = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        expected = original.decode(original.encode(image)[0])
        network = module.inference_autoencoder
        assert torch.equal(network.decode(network.encode(image)[0]), expected)
