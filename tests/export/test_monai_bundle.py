"""MONAI bundle: ``monai.bundle`` runs the folder, with the results of `pti`'s own commands."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle.scripts import run as run_bundle
from monai.bundle.scripts import verify_net_in_out
from monai.bundle.workflows import ConfigWorkflow

import pti
from helpers.in_process import run_command
from helpers.tiny_checkpoints import VAE, save, save_sizes, save_translator
from pti.common.errors import UsageError
from pti.data import tif
from pti.data.input_images import find_images
from pti.export.__main__ import main
from pti.inference.trust import TrustReference
from pti.reconstruct.__main__ import main as reconstruct
from pti.runs.checkpoint import open_checkpoint
from pti.runs.constructors import build
from pti.train.callbacks import StopSignals
from pti.train.trust import store_trust
from pti.translate.__main__ import main as translate

run = partial(run_command, main)


@pytest.fixture(scope="module")
def data(phantom_24: Path) -> Path:
    return phantom_24


@pytest.fixture(scope="module")
def images(data) -> Path:
    """The folder of the dente images."""
    return data / "dente"


@pytest.fixture(scope="module")
def stage_2(tmp_path_factory, data) -> Path:
    folder = tmp_path_factory.mktemp("run")
    path = save_translator(folder / "best.ckpt", data, batch_size=8, sources="pairs", cache_dir=None)
    store_trust(folder, torch.device("cpu"), 5, StopSignals())
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, stage_2) -> Path:
    root = tmp_path_factory.mktemp("exported")
    done = run(root, f"ckpt={stage_2}", "format=monai_bundle", "output_dir=bundle")
    assert "python -m monai.bundle run --config_file bundle/configs/inference.json" in done.stdout
    return root / "bundle"


def settings_of(bundle: Path, images: Path, output_dir: Path) -> dict[str, Any]:
    """Arguments of ``monai.bundle run``."""
    return {
        "config_file": str(bundle / "configs/inference.json"),
        "bundle_root": str(bundle),
        "dataset_dir": str(images),
        "output_dir": str(output_dir),
        "device": "cpu",
    }


def require_equal(folder: Path, other: Path) -> None:
    files = sorted(path.relative_to(folder) for path in folder.rglob("*.tif"))
    assert files
    assert files == sorted(path.relative_to(other) for path in other.rglob("*.tif"))
    for file in files:
        own, expected = tif.read(folder / file), tif.read(other / file)
        assert own.pixel_mm == expected.pixel_mm
        assert np.ptp(expected.pixels) > 0
        np.testing.assert_allclose(own.pixels, expected.pixels, atol=1e-4 * np.ptp(expected.pixels))


def test_translations_are_those_of_the_command(tmp_path, images, stage_2, bundle):
    settings = (f"ckpt={stage_2}", f"input_dir={images}", "samples=2", "seed=3", "output_dir=own")
    run_command(translate, tmp_path, *settings)
    run_bundle(**settings_of(bundle, images, tmp_path / "monai"), samples=2, seed=3)
    require_equal(tmp_path / "monai" / "samples", tmp_path / "own" / "samples")


def test_reconstructions_are_those_of_the_command(tmp_path, data, images):
    module = build(VAE, "the test")
    module.normalization.fit([tif.read(image.path).pixels for image in find_images(images)])
    ckpt = save(tmp_path / "a.ckpt", module, VAE, data, sources="target")
    run(tmp_path, f"ckpt={ckpt}", "format=monai_bundle", "output_dir=bundle")
    run_command(reconstruct, tmp_path, f"ckpt={ckpt}", f"input_dir={images}", "output_dir=own")
    run_bundle(**settings_of(tmp_path / "bundle", images, tmp_path / "monai"), samples=4)
    require_equal(tmp_path / "monai" / "reconstructions", tmp_path / "own" / "reconstructions")
    assert "`OUTPUT/reconstructions/NAME.tif`" in (tmp_path / "bundle/docs/README.md").read_text()


def test_an_interrupted_run_resumes_and_other_results_are_kept(tmp_path, images, bundle):
    settings = settings_of(bundle, images, tmp_path / "out")
    run_bundle(**settings)
    first, second = sorted((tmp_path / "out").rglob("*.tif"))[:2]
    first.unlink()
    before = second.stat().st_mtime_ns
    run_bundle(**settings)
    assert first.exists()
    assert second.stat().st_mtime_ns == before
    with pytest.raises(RuntimeError) as failed:
        run_bundle(**settings, seed=1)
    assert isinstance(failed.value.__cause__, UsageError)
    assert "seed" in str(failed.value.__cause__)


def test_monai_finds_what_it_expects_of_an_inference(images, tmp_path, bundle):
    settings = settings_of(bundle, images, tmp_path / "out")
    workflow = ConfigWorkflow(**settings, workflow_type="infer")
    workflow.initialize()
    assert not workflow.check_properties()


def test_the_network_has_the_format_that_the_metadata_states(bundle):
    metadata, config = (str(bundle / "configs" / name) for name in ("metadata.json", "inference.json"))
    arguments: dict[str, Any] = {"meta_file": metadata, "config_file": config, "device": "cpu"}
    arguments["bundle_root"] = str(bundle)
    verify_net_in_out("network_def", **arguments)
    arguments["_meta_#network_data_format#outputs#pred#num_channels"] = 2
    with pytest.raises(ValueError, match="channel number"):
        verify_net_in_out("network_def", **arguments)


def test_the_metadata_has_the_mandatory_keys(bundle):
    metadata = json.loads((bundle / "configs/metadata.json").read_text())
    mandatory = (
        "version monai_version pytorch_version numpy_version required_packages_version task description "
        "authors copyright network_data_format"
    )
    assert set(mandatory.split()) <= metadata.keys()
    assert metadata["required_packages_version"]["pti"] == pti.__version__
    assert metadata["network_data_format"]["inputs"]["image"]["spatial_shape"] == [32, 32]


def test_the_weights_are_a_checkpoint_for_inference(data, stage_2, bundle):
    path = bundle / "models/model.pt"
    content = torch.load(path, weights_only=True)
    assert "optimizer_states" not in content
    assert str(data).encode() not in path.read_bytes()
    assert TrustReference.of_checkpoint(open_checkpoint(path).content, "the test") is not None
    raw = tif.read(next((data / "dente").glob("*.tif"))).pixels
    own, exported = (pti.load(ckpt, device="cpu").translate(raw) for ckpt in (stage_2, path))
    np.testing.assert_array_equal(own, exported)


def test_the_card_says_how_to_run_it(bundle):
    card = (bundle / "docs/README.md").read_text()
    assert "python -m monai.bundle run --config_file configs/inference.json" in card
    assert "- monai_bundle\n" in card


def test_a_model_without_images_is_refused(tmp_path, data):
    save_sizes(tmp_path / "a.ckpt", data)
    done = run(tmp_path, "ckpt=a.ckpt", "format=monai_bundle", "output_dir=out", code=2)
    assert "found a model of the class PixelSizes, expected one that makes images" in done.stderr


@pytest.mark.slow
def test_the_command_line_of_monai(tmp_path, images, bundle):
    pytest.importorskip("fire")
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json"]
    command += ["--dataset_dir", str(images), "--output_dir", str(tmp_path / "out"), "--samples", "2"]
    subprocess.run(command, cwd=bundle, check=True)
    assert len(list((tmp_path / "out/samples").rglob("*.tif"))) == 48
