"""A cross-validation of both stages, each one command."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from helpers import second_stage_setup, training_setup
from helpers.forks import run
from helpers.training_setup import make_images
from pti.common.errors import UsageError
from pti.inference.inputs import find_inputs
from pti.train.cross_validation import first_stage_of


def sweep_folder(folder: Path, folds: int) -> Path:
    for fold in range(folds):
        checkpoints = folder / f"data.fold-{fold}" / "checkpoints"
        checkpoints.mkdir(parents=True)
        (checkpoints / "best.ckpt").touch()
    (folder / "sweep.json").touch()
    return folder


def test_each_fold_gets_the_autoencoder_of_its_own_job(tmp_path):
    folder = sweep_folder(tmp_path / "vae", 3)
    for fold in range(3):
        config = OmegaConf.create({"autoencoder_ckpt": str(folder), "data": {"folds": 3, "fold": fold}})
        assert first_stage_of(config) == folder / f"data.fold-{fold}" / "checkpoints" / "best.ckpt"
    config = OmegaConf.create({"autoencoder_ckpt": str(folder), "data": {"folds": 5, "fold": 4}})
    with pytest.raises(UsageError, match="no such checkpoint"):
        first_stage_of(config)
    config = OmegaConf.create({"autoencoder_ckpt": str(folder), "data": {"folds": None, "fold": 0}})
    with pytest.raises(UsageError, match="found a folder"):
        first_stage_of(config)


@pytest.mark.slow
def test_both_stages_over_three_folds_test_every_patient_once(tmp_path):
    root = make_images(tmp_path / "data", patients=24, slices=1)
    sweep = ("-m", "data.folds=3", "data.fold=0,1,2", "data.batch_size=2", "trainer.max_epochs=1")
    first = training_setup.arguments(root, *sweep, "output_dir=vae")
    code, output = run(tmp_path, *first)
    assert code == 0, output
    second = second_stage_setup.arguments(root, *sweep, "autoencoder_ckpt=vae", "output_dir=ldm")
    code, output = run(tmp_path, *second)
    assert code == 0, output
    assert "patients are split differently" not in output
    tested = []
    for fold in range(3):
        job = tmp_path / "ldm" / f"data.fold-{fold}"
        config = OmegaConf.load(job / "config.yaml")
        assert f"data.fold-{fold}" in config.autoencoder_ckpt
        assert json.loads((job / "summary.json").read_text())["status"] == "finished"
        images = find_inputs(config.data, "test", "the test", with_targets=True).images
        tested += [image.patient for image in images]
    assert len(tested) == len(set(tested)) == 24
