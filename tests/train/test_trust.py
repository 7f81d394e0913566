"""The reference for trust in the checkpoints of a finished training."""

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.second_stage_setup import configuration, save_autoencoder, trained
from helpers.tiny_checkpoints import save_translator
from pti.inference.trust import TrustReference
from pti.runs.renamed import migrate
from pti.train.callbacks import Interrupted, StopSignals
from pti.train.trust import store_trust

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(phantom_24: Path) -> Path:
    return phantom_24


@pytest.fixture
def folder(tmp_path, data) -> Path:
    """A folder with a best.ckpt that has no reference."""
    save_translator(tmp_path / "best.ckpt", data, batch_size=8)
    return tmp_path


def content(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def test_a_reference_is_added_and_everything_else_is_kept(folder):
    before = content(folder / "best.ckpt")
    shutil.copy(folder / "best.ckpt", folder / "last-1.ckpt")
    store_trust(folder, CPU, 200, StopSignals())
    after = content(folder / "best.ckpt")
    reference = TrustReference.of_checkpoint(after, "best.ckpt")
    assert reference is not None
    scores = {"intensity", "layout", "edges", "latents", "reconstruction", "detail", "change", "disagreement"}
    assert reference.limit.scales.keys() == scores
    assert after.keys() == {*before, "trust"}
    assert after["config"] == migrate(before)["config"]
    for name, weight in before["state_dict"].items():
        assert torch.equal(after["state_dict"][name], weight)
    assert "trust" not in content(folder / "last-1.ckpt")
    assert sorted(path.name for path in folder.iterdir()) == ["best.ckpt", "last-1.ckpt"]


def test_the_number_of_validation_images_is_limited(folder):
    store_trust(folder, CPU, 5, StopSignals())
    reference = TrustReference.of_checkpoint(content(folder / "best.ckpt"), "best.ckpt")
    assert reference is not None
    assert reference.limit.patients == 5


def test_a_signal_ends_the_work_and_the_checkpoint_stays(folder):
    before = (folder / "best.ckpt").read_bytes()
    signals = StopSignals()
    signals.received = signal.SIGTERM
    with pytest.raises(Interrupted):
        store_trust(folder, CPU, 200, signals)
    assert (folder / "best.ckpt").read_bytes() == before


def test_too_few_patients_are_a_warning(folder, capsys):
    store_trust(folder, CPU, 4, StopSignals())
    assert "because no reference is stored: found 4 validation patients" in capsys.readouterr().err
    assert "trust" not in content(folder / "best.ckpt")


@pytest.mark.parametrize("images", [5, 0])
def test_a_training_stores_it_at_its_end(tmp_path, data, images):
    link = f"autoencoder_ckpt={save_autoencoder(data, tmp_path / 'vae.ckpt')}"
    settings = (link, f"trust_images={images}", "data.fractions=[0.5,0.5,0]", "trainer.max_epochs=1")
    run = trained(configuration(data, tmp_path / "run", *settings), tmp_path / "run")
    for name in ("best.ckpt", "last.ckpt"):
        assert ("trust" in content(run / "checkpoints" / name)) == bool(images)
