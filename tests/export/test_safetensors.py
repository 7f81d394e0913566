"""The command export: a folder that stands for its checkpoint, bit for bit, without the training's traces."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pti
from helpers.in_process import rows, run_command
from helpers.latent_study_setup import LATENT_ATTRIBUTES
from helpers.tiny_checkpoints import TRANSLATOR, VAE, save, save_sizes
from pti.common.errors import UsageError
from pti.data import tif
from pti.data.input_images import find_images
from pti.evaluate.__main__ import main as evaluate
from pti.export.__main__ import main
from pti.inference.trust import TrustReference
from pti.modules.attributes import attributes_of
from pti.reconstruct.__main__ import main as reconstruct
from pti.runs.checkpoint import CheckpointError, open_checkpoint
from pti.runs.constructors import build
from pti.runs.first_stage import embed_first_stage_config
from pti.runs.weights import match, open_weights
from pti.train.callbacks import StopSignals
from pti.train.resume import open_resumed
from pti.train.trust import store_trust
from pti.translate.__main__ import main as translate

run = partial(run_command, main)

BEST = {"epoch": 3, "step": 40, "val/loss": 0.1234567, "monitor": 0.1, "at_baseline": False}


@pytest.fixture(scope="module")
def data(phantom_24: Path) -> Path:
    return phantom_24


def averaged(model: dict[str, Any], data: Path) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Build a model whose average differs from its weights."""
    torch.manual_seed(0)
    config = {**model, "ema_decay": 0.9}
    module: Any = build(config, "the test")
    module.normalization.fit([tif.read(image.path).pixels for image in find_images(data / "edente")])
    with torch.no_grad():
        for weight in module.ema.model.parameters():
            weight.add_(0.01 * torch.randn_like(weight))
    return module, config


@pytest.fixture(scope="module")
def stage_2(tmp_path_factory, data) -> Path:
    """The checkpoint of a second stage with an average, a reference for trust and a best validation."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    folder.mkdir()
    module, config = averaged(TRANSLATOR, data)
    translator: Any = module
    with torch.no_grad():
        translator.latent_space.first_stage.autoencoder.decoder.blocks[-1].conv.bias.fill_(0.5)
    path = save(
        folder / "best.ckpt", module, config, data, batch_size=8, sources="pairs", cache_dir="/secret/cache"
    )
    store_trust(folder, torch.device("cpu"), 5, StopSignals())
    more = {"callbacks": {"Checkpointer": {"best": BEST}}, "epoch": 3, "data_fingerprint": "0123456789abcdef"}
    torch.save(torch.load(path) | more | {"versions": {"pti": "0.1.0", "torch": "2.0"}}, path)
    return path


@pytest.fixture(scope="module")
def stage_1(tmp_path_factory, data) -> Path:
    module, config = averaged(VAE, data)
    return save(tmp_path_factory.mktemp("vae") / "best.ckpt", module, config, data, sources="target")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, stage_2) -> Path:
    """The second stage, exported."""
    root = tmp_path_factory.mktemp("exported")
    done = run(root, f"ckpt={stage_2}", "output_dir=model")
    assert done.stdout.endswith("\nNext: python -m pti.translate ckpt=model input_dir=FOLDER\n")
    return root / "model"


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory, stage_1) -> Path:
    """The first stage, exported."""
    root = tmp_path_factory.mktemp("exported")
    done = run(root, f"ckpt={stage_1}", "output_dir=vae")
    assert done.stdout.endswith("\nNext: python -m pti.reconstruct ckpt=vae input_dir=FOLDER\n")
    return root / "vae"


def tifs(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.tif")}


def test_translations_are_those_of_the_checkpoint_bit_for_bit(tmp_path, data, stage_2, folder):
    for name, ckpt in (("checkpoint", stage_2), ("exported", folder)):
        settings = (f"ckpt={ckpt}", f"input_dir={data / 'dente'}", "samples=2", "num_samples=3")
        done = run_command(translate, tmp_path, *settings, f"output_dir={name}")
        needs_data = " data.root=FOLDER" if name == "exported" else ""
        assert done.stdout.endswith(f"Next: python -m pti.evaluate ckpt={ckpt}{needs_data}\n")
    own, exported = tifs(tmp_path / "checkpoint"), tifs(tmp_path / "exported")
    assert len(own) >= 6
    assert own == exported
    judged = [rows(tmp_path / name / "images.csv") for name in ("checkpoint", "exported")]
    assert "trust" in judged[0][0]
    assert judged[0] == judged[1]


def test_reconstructions_are_those_of_the_checkpoint_bit_for_bit(tmp_path, data, stage_1, autoencoder):
    for name, ckpt in (("checkpoint", stage_1), ("exported", autoencoder)):
        settings = (f"ckpt={ckpt}", f"input_dir={data / 'edente'}", "num_samples=3")
        done = run_command(reconstruct, tmp_path, *settings, f"output_dir={name}")
        needs_data = " data.root=FOLDER" if name == "exported" else ""
        assert done.stdout.endswith(f"Next: python -m pti.analyze ckpt={ckpt}{needs_data}\n")
    assert tifs(tmp_path / "checkpoint") == tifs(tmp_path / "exported") != {}


def test_the_average_and_not_the_trained_weights_are_exported(stage_2, folder):
    state, own = open_checkpoint(stage_2).state, open_checkpoint(folder).state
    assert not [name for name in own if name.startswith(("ema.", "discriminator."))]
    weights = {name for name in state if name.startswith("network.")}
    assert weights
    for name in weights:
        assert torch.equal(own[name], state[name.replace("network", "ema.model", 1)])
    assert sum(value.numel() for value in own.values()) < sum(value.numel() for value in state.values())


def test_the_reference_for_trust_is_the_same(stage_2, folder):
    own, exported = (
        TrustReference.of_checkpoint(open_checkpoint(path).content, "the test") for path in (stage_2, folder)
    )
    assert own is not None
    assert exported is not None
    assert own.limit == exported.limit
    for name, distance in own.distances.items():
        for key, value in vars(distance).items():
            np.testing.assert_array_equal(value, getattr(exported.distances[name], key))


def test_python_takes_the_folder(data, stage_2, folder):
    raw = tif.read(next((data / "dente").glob("*.tif"))).pixels
    own, exported = (pti.load(path, device="cpu").translate(raw, samples=2) for path in (stage_2, folder))
    np.testing.assert_array_equal(own, exported)


def test_a_second_stage_takes_the_weights_of_an_exported_autoencoder(data, stage_1, autoencoder):
    taken = []
    for path in (stage_1, autoencoder):
        plain: Any = {
            "model": {"first_stage": None},
            "data": {"split_seed": 3},
            "autoencoder_ckpt": str(path),
        }
        taken.append((embed_first_stage_config(plain), plain["model"]["first_stage"]))
    (own, config), (exported, other) = taken
    assert config == other
    assert own is not None
    assert exported is not None
    assert own.keys() == exported.keys()
    assert all(torch.equal(own[name], exported[name]) for name in own)


def test_a_training_cannot_be_resumed_from_it(tmp_path, folder):
    with pytest.raises(CheckpointError, match="no state of a training run"):
        open_resumed({"ckpt_path": str(folder)}, tmp_path)


def test_no_path_of_the_training_is_in_the_model(data, stage_2, folder):
    for name in ("config.json", "README.md", "model.safetensors"):
        content = (folder / name).read_bytes()
        for path in (data, stage_2.parent, "/secret"):
            assert str(path).encode() not in content
    config = json.loads((folder / "config.json").read_text())
    assert config["data"]["root"] == "???"
    assert config["data"]["test_root"] is None
    assert config["data"]["fractions"] == [0.5, 0.25, 0.25]


def test_attributes_are_exported_without_the_path_of_their_table(tmp_path, data):
    attributes = {**LATENT_ATTRIBUTES, "table": "/secret/measures.csv"}
    module, config = averaged({**VAE, "attributes": attributes}, data)
    path = save(tmp_path / "best.ckpt", module, config, data, sources="target")
    run(tmp_path, f"ckpt={path}", "output_dir=model")
    assert "/secret" not in (tmp_path / "model" / "config.json").read_text()
    exported = attributes_of(open_checkpoint(tmp_path / "model").load_module())
    assert exported is not None
    assert exported.measures == ("height", "width_half")


def test_a_data_set_has_to_be_named(tmp_path, data, folder):
    done = run_command(translate, tmp_path, f"ckpt={folder}", "output_dir=out", code=2)
    assert "Set data.root=FOLDER" in done.stderr
    run_command(translate, tmp_path, f"ckpt={folder}", f"data.root={data}", "samples=1", "output_dir=out")


def test_a_separate_test_set_is_not_replaced_by_training_patients(tmp_path, data):
    module = build(VAE, "the test")
    path = save(tmp_path / "a.ckpt", module, VAE, data, sources="target", test_root=str(data))
    run(tmp_path, f"ckpt={path}", "output_dir=model")
    settings = ("ckpt=model", f"data.root={data}", "output_dir=out")
    done = run_command(reconstruct, tmp_path, *settings, code=2)
    assert "data.test_root=FOLDER" in done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("without_plots")
def test_evaluations_are_those_of_the_checkpoint(tmp_path, data, stage_2, folder):
    for name, ckpt in (("checkpoint", stage_2), ("exported", folder)):
        settings = (f"ckpt={ckpt}", f"data.root={data}", "samples=2", "distributions=false")
        run_command(evaluate, tmp_path, *settings, f"output_dir={name}")
    own, exported = ((tmp_path / name / "per_slice.csv").read_text() for name in ("checkpoint", "exported"))
    own_rows, exported_rows = own.splitlines()[1:], exported.splitlines()[1:]
    assert own.splitlines()[0] == exported.splitlines()[0]
    for row, other in zip(own_rows, exported_rows, strict=True):
        assert row.split(",")[1:] == other.split(",")[1:]  # but for the method's name


def test_the_card_says_what_the_model_is(data, folder, stage_2):
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: pti\npipeline_tag: image-to-image\n")
    assert "not a medical device" in card
    assert "conditional latent diffusion" in card
    assert "`0123456789abcdef`" in card
    assert "after epoch 4" in card
    assert "| loss | 0.1235 |" in card
    assert "| torch | 2.0 |" in card
    assert "ddim, 3 steps" in card
    counted = [line for line in card.splitlines() if line.startswith(("| train", "| val", "| test"))]
    assert sum(int(line.split("|")[2]) for line in counted) == 24
    assert open_checkpoint(stage_2).sha256 in card


def test_the_card_reads_the_summary_of_the_run_where_the_checkpoint_is_silent(tmp_path, data):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    path = save_sizes(tmp_path / "run" / "checkpoints" / "last.ckpt", data)
    figures = {"best/epoch": 1, "best/val/loss": 0.5, "val/loss": 0.7}
    summary = {"command": "train", "figures": figures}
    (tmp_path / "run" / "summary.json").write_text(json.dumps(summary))
    run(tmp_path, f"ckpt={path}", "output_dir=model")
    card = (tmp_path / "model" / "README.md").read_text()
    assert "| loss | 0.5 |" in card
    assert "after epoch 2" in card
    assert "sizes of the healed bone" in card


def test_the_summary_says_what_was_exported(folder, stage_2):
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["command"] == "export"
    assert summary["checkpoint"] == {"path": str(stage_2), "sha256": open_checkpoint(stage_2).sha256}
    assert summary["figures"]["reference for trust"] == "included"
    assert all((folder / name).is_file() for name in summary["artefacts"].values())


def test_an_exported_model_can_be_exported_again(tmp_path, folder):
    run(tmp_path, f"ckpt={folder}", "output_dir=model")
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == (
        folder / "model.safetensors"
    ).read_bytes()


def test_nothing_of_the_users_is_overwritten(tmp_path, stage_1):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("mine")
    done = run(tmp_path, f"ckpt={stage_1}", "output_dir=out", code=2)
    assert "README.md" in done.stderr
    assert (tmp_path / "out" / "README.md").read_text() == "mine"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((), "ckpt is not set"),
        (("ckpt=nowhere.ckpt",), "there is no such checkpoint"),
        (("ckpt=nowhere.ckpt", "format=pickle"), "format=pickle: expected one of safetensors"),
    ],
)
def test_mistakes_on_the_command_line(tmp_path, settings, message):
    (tmp_path / "a.ckpt").touch()
    assert message in run(tmp_path, *settings, "output_dir=out", code=2).stderr


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    torch.save({"weights": torch.zeros(3)}, tmp_path / "a.ckpt")
    assert "expected a checkpoint" in run(tmp_path, "ckpt=a.ckpt", "output_dir=out", code=1).stderr


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UsageError, match="found a folder"):
        pti.load(tmp_path)


def test_an_exported_model_gives_the_same_first_weights_as_its_checkpoint(stage_2, folder):
    own, exported = open_weights(stage_2), open_weights(folder)
    network = {name.removeprefix("network."): value for name, value in exported.tensors.items()}
    network = {name: value for name, value in network.items() if f"ema.model.{name}" in own.tensors}
    assert network
    averaged = match(own.tensors, network, ["ema.model.", "network."])
    found = match(exported.tensors, network, ["ema.model.", "network."])
    assert averaged.complete
    assert found.prefix == "network."
    for name, value in averaged.fitting.items():
        assert torch.equal(value, found.fitting[name])
