"""The format onnx: graphs that onnxruntime runs as torch does, and a program that needs no torch."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.in_process import run_command
from helpers.tiny_checkpoints import SIZE, TRANSLATOR, VAE, save, save_sizes
from pti.common.randomness import sample_generator
from pti.data import tif
from pti.data.input_images import find_images
from pti.data.normalization import RangeNormalization
from pti.data.phantom import make_phantom
from pti.data.resize import pad_and_resize
from pti.export import __main__ as export
from pti.runs.checkpoint import open_checkpoint
from pti.runs.constructors import build

run = partial(run_command, export.main)

NETWORK = TRANSLATOR["network"]
DETAIL = {"_target_": "pti.networks.detail_transfer.DetailTransfer", "by_region": True}
REGRESSION = {
    "_target_": "pti.modules.regression.Regression",
    "network": {**NETWORK, "latent_channels": 1, "conditioning": "none"},
    "normalization": {"_target_": "pti.data.normalization.MaskedZScore"},
    "optimizer": TRANSLATOR["optimizer"],
}
LATENT_REGRESSION = {
    "_target_": "pti.modules.regression.LatentRegression",
    **{key: TRANSLATOR[key] for key in ("first_stage", "network", "optimizer")},
}
MODELS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "ddim with noise, attention, average": (
        {
            **TRANSLATOR,
            "ema_decay": 0.9,
            "network": {**NETWORK, "conditioning": "both", "attention_levels": [False, True]},
        },
        (),
    ),
    "flow from the condition, detail, texture, guidance": (
        {
            **TRANSLATOR,
            "path": {"_target_": "pti.diffusion.paths.RectifiedFlow", "start": "condition"},
            "detail_transfer": DETAIL,
            "texture": {"_target_": "pti.networks.texture_synthesis.TextureSynthesis"},
            "condition_dropout": 0.1,
        },
        ("sampler=euler", "steps=4", "guidance_scale=1.5"),
    ),
    "bridge": (
        {**TRANSLATOR, "path": {"_target_": "pti.diffusion.paths.BrownianBridge"}},
        ("sampler=ddpm", "steps=3"),
    ),
    "regression in pixels": (REGRESSION, ()),
    "regression in latents": (LATENT_REGRESSION, ()),
    "stage 1": (VAE, ()),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "phantom"
    make_phantom(root, patients=4, slices=1, image_size=64, seed=1)
    return root


def save_model(path: Path, model: dict[str, Any], data: Path) -> Path:
    """Write a checkpoint with random weights whose outputs are mostly tissue."""
    torch.manual_seed(0)
    module: Any = build(model, "the test")
    if isinstance(module.normalization, RangeNormalization):
        module.normalization.fit([tif.read(image.path).pixels for image in find_images(data / "edente")])
    space = getattr(module, "latent_space", None)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if name.startswith(("network.unet.out", "ema.model.unet.out")):
                weight.normal_(0, 0.05)  # a new network returns 0
        if space is not None:
            space.first_stage.autoencoder.decoder.blocks[-1].conv.bias.fill_(0.5)
            space.scaling.shift.fill_(0.1)
            space.scaling.scale.fill_(0.8)
        if getattr(space, "texture", None) is not None:
            space.texture.intensities.copy_(torch.linspace(-0.8, 0.9, 8))
            space.texture.deviations.copy_(torch.linspace(0.05, 0.02, 8))
            space.texture.kernel[0, 0, 8, 7:10] = 0.5
    return save(path, module, model, data)


def draws(numbers: dict[str, Any], shape: tuple[int, ...], generator: torch.Generator) -> list[np.ndarray]:
    """Draw what the sampler draws, in its order."""
    count = sum(len(part["noise"]) for part in (numbers["start"], *numbers["steps"]))
    shapes = [shape] * count + [(1, SIZE, SIZE)] * ("texture" in numbers)
    return [torch.randn(one, generator=generator).numpy()[None] for one in shapes]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_program_reproduces_the_model(tmp_path, data, name):
    pytest.importorskip("onnxruntime")
    model, settings = MODELS[name]
    ckpt = save_model(tmp_path / "best.ckpt", model, data)
    run(tmp_path, f"ckpt={ckpt}", "format=onnx", "output_dir=model", *settings)
    folder = tmp_path / "model"
    figures = json.loads((folder / "summary.json").read_text())["figures"]
    differences = [value for key, value in figures.items() if key.startswith("difference of ")]
    assert 0 < max(differences) <= figures["bound of the differences"]
    numbers = json.loads((folder / "model.json").read_text())
    assert f"{'onnx'}" in (folder / "README.md").read_text()

    raw = pad_and_resize(tif.read(next((data / "dente").glob("*.tif"))).pixels, SIZE)
    tif.write(tmp_path / "dente.tif", raw, 0.6)
    module: Any = open_checkpoint(ckpt).load_module()
    images = torch.from_numpy(raw)[None, None]
    options = dict(text.split("=") for text in settings)
    with torch.no_grad():
        if name == "stage 1":
            expected, latents = module(images), (2, SIZE // 2, SIZE // 2)
        else:
            sampling: dict[str, Any] = {}
            if options:
                sampler = build(
                    {"_target_": f"pti.diffusion.samplers.{options['sampler']}", "_partial_": True}, ""
                )
                scale = float(options.get("guidance_scale", 1))
                sampling = {"sampler": sampler, "steps": int(options["steps"]), "guidance_scale": scale}
            expected = module.translate(images, [sample_generator(0, "a", 0)], **sampling)
            latents = (2, SIZE // 2, SIZE // 2)
    np.savez(tmp_path / "noise.npz", *draws(numbers, latents, sample_generator(0, "a", 0)))
    command = [
        sys.executable,
        folder / "translate_onnx.py",
        "dente.tif",
        "edente.tif",
        "--noise",
        "noise.npz",
    ]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120)

    found = tif.read(tmp_path / "edente.tif").pixels
    own = expected[0, 0].numpy()
    assert np.mean(own != 0) > 0.05
    close = np.abs(found - own) <= 1e-3 * np.abs(own).max()
    # A rounding error may move a pixel across the threshold of the background.
    assert np.mean(close) >= 0.998, f"{np.sum(~close)} of {close.size} pixels differ"


@pytest.mark.slow
def test_a_graph_that_computes_something_else_is_refused(tmp_path, data, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("pti.export.onnx_folder.BOUND", 1e-12)
    ckpt = save_model(tmp_path / "best.ckpt", VAE, data)
    done = run(tmp_path, f"ckpt={ckpt}", "format=onnx", "output_dir=model", code=1)
    assert "differs from torch" in done.stderr
    assert not (tmp_path / "model" / "summary.json").exists()


def test_without_the_packages_one_message_names_the_extra(tmp_path, data, monkeypatch):
    ckpt = save_model(tmp_path / "best.ckpt", VAE, data)
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    done = run(tmp_path, f"ckpt={ckpt}", "format=onnx", "output_dir=model", code=2)
    assert 'onnxruntime: pip install "pti[onnx]"' in done.stderr


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (TRANSLATOR, ("sampler=heun",), "sampler=heun: its steps can't be exported"),
        (TRANSLATOR, ("guidance_scale=2",), "can not be guided|cannot be guided"),
        (VAE, ("steps=3",), "steps: AdversarialVAE has no sampler"),
        (LATENT_REGRESSION, ("sampler=euler",), "sampler: LatentRegression has no sampler"),
    ],
)
def test_settings_that_a_model_does_not_support(tmp_path, data, monkeypatch, model, settings, message):
    monkeypatch.setattr(export, "find_spec", lambda name: "found")
    ckpt = save_model(tmp_path / "best.ckpt", model, data)
    done = run(tmp_path, f"ckpt={ckpt}", "format=onnx", "output_dir=model", *settings, code=2)
    assert any(text in done.stderr for text in message.split("|"))


def test_a_model_of_sizes_makes_no_images(tmp_path, data, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: "found")
    ckpt = save_sizes(tmp_path / "best.ckpt", data)
    done = run(tmp_path, f"ckpt={ckpt}", "format=onnx", "output_dir=model", code=2)
    assert "found a PixelSizes, expected a model that makes images" in done.stderr
