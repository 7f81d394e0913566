"""`pti.load`: a trained model for arrays."""

import hashlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

import pti
from helpers import training_setup as setup
from helpers.in_process import rows, run_command
from helpers.tiny_checkpoints import save_sizes
from pti.common.errors import UsageError
from pti.data import tif
from pti.data.phantom import make_phantom
from pti.export.__main__ import main as export
from pti.metrics.calibration import QUANTILES
from pti.train.callbacks import StopSignals
from pti.train.run import Training
from pti.translate.__main__ import main


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    root = setup.make_images(folder / "data")
    with StopSignals() as signals:
        Training(
            setup.configuration(root, folder / "run", "trainer.max_epochs=1"), folder / "run", signals
        ).run()
    return folder / "run" / "checkpoints" / "last.ckpt"


@pytest.fixture(scope="module")
def model(checkpoint):
    return pti.load(checkpoint, device="cpu")


def images(count: int, size: int = 24) -> np.ndarray:
    rng = np.random.default_rng(1)
    inside = np.zeros((size, size), bool)
    inside[size // 4 : -size // 4, size // 4 : -size // 4] = True
    return np.where(inside, rng.uniform(300, 900, (count, size, size)), 0).astype(np.float32)


def test_import_stays_light():
    code = "import pti, sys; print([name for name in ('torch', 'numpy', 'hydra') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_reconstructions_have_the_shape_of_the_input(model):
    assert model.reconstruct(images(1)[0]).shape == (24, 24)
    assert model.reconstruct(images(3)).shape == (3, 24, 24)
    reconstructions = model.reconstruct([images(1, 24)[0], images(1, 32)[0]])
    assert [image.shape for image in reconstructions] == [(24, 24), (32, 32)]


def test_reconstruction_is_encoding_and_decoding(model):
    raw = images(2, setup.SIZE)
    latents = model.encode(raw)
    assert latents.shape[:2] == (2, 4)
    np.testing.assert_allclose(model.decode(latents), model.reconstruct(raw), rtol=1e-5, atol=1e-3)


def test_sizes_are_those_of_the_command(tmp_path):
    root = tmp_path / "phantom"
    make_phantom(root, patients=4, slices=1, image_size=64, seed=1)
    path = save_sizes(tmp_path / "best.ckpt", root)
    files = sorted((root / "dente").iterdir())
    read = [tif.read(file) for file in files]
    model = pti.load(path, device="cpu")
    sizes = model.predict_sizes([image.pixels for image in read], pixel_mm=read[0].pixel_mm)
    run_command(main, tmp_path, f"ckpt={path}", f"input_dir={root / 'dente'}", "output_dir=out")
    expected = [float(row["height_mm"]) for row in rows(tmp_path / "out" / "sizes.csv")]
    np.testing.assert_allclose(sizes["height"][:, QUANTILES // 2], expected, atol=1e-3)
    assert (np.diff(sizes["area"], axis=1) > 0).all()
    halved = model.predict_sizes(read[0].pixels, pixel_mm=(read[0].pixel_mm or 0) / 2)
    np.testing.assert_allclose(halved["height"], sizes["height"][:1] / 2, rtol=1e-3)


def test_a_vae_predicts_no_sizes(model):
    with pytest.raises(UsageError, match="best:sizes"):
        model.predict_sizes(images(1))


def test_stage_1_does_not_translate(model):
    with pytest.raises(UsageError, match="stage 2"):
        model.translate(images(1))


def test_wrong_arrays_are_refused(model):
    with pytest.raises(ValueError, match="found"):
        model.encode(np.zeros((2, 1, 8, 8), np.float32))
    with pytest.raises(ValueError, match="NaN"):
        model.encode(np.full((8, 8), np.nan, np.float32))


def test_wrong_device_is_refused(checkpoint):
    with pytest.raises(UsageError, match="device=abacus"):
        pti.load(checkpoint, device="abacus")


def test_pairs_are_those_of_the_split_of_the_training(model, checkpoint):
    by_split = {split: {pair.name for pair in model.pairs(split)} for split in ("train", "val", "test")}
    table = rows(checkpoint.parents[1] / "split.csv")
    assert by_split == {split: {row["name"] for row in table if row["split"] == split} for split in by_split}
    assert {pair.split for pair in model.pairs("val")} == {"val"}
    assert model.pairs() == model.pairs("test")


def test_a_moved_data_set_is_split_alike(model, tmp_path):
    moved = shutil.copytree(model.config["data"]["root"], tmp_path / "moved")
    pairs = model.pairs("val", root=moved)
    assert [pair.name for pair in pairs] == [pair.name for pair in model.pairs("val")]
    assert all(file.is_relative_to(moved) for pair in pairs for file in pair.files.values())


def test_an_unknown_split_is_refused(model):
    with pytest.raises(UsageError, match="found 'all'"):
        model.pairs("all")


def test_an_exported_model_needs_the_folder_of_the_data(checkpoint, model, tmp_path):
    run_command(export, tmp_path, f"ckpt={checkpoint}", "output_dir=model")
    exported = pti.load(tmp_path / "model", device="cpu")
    with pytest.raises(UsageError, match="pass the data set's as root"):
        exported.pairs()
    names = [pair.name for pair in exported.pairs(root=model.config["data"]["root"])]
    assert names == [pair.name for pair in model.pairs()]


def test_a_model_describes_its_checkpoint_and_data(model, checkpoint):
    assert model.path == checkpoint.absolute()
    assert model.sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert model.pixel_mm == model.config["data"]["pixel_mm"]
    brightest = max(tif.read(pair.target).pixels.max() for pair in model.pairs("train"))
    assert 0.5 * brightest < model.data_range <= brightest
