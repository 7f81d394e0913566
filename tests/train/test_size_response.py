"""The response to sizes in the checkpoints of a finished training."""

import signal
from pathlib import Path

import pytest
import torch

from helpers.second_stage_setup import configuration, save_autoencoder, trained
from pti.common.errors import DataError
from pti.networks.size_condition import SizeCondition
from pti.runs.checkpoint import open_checkpoint
from pti.train import size_response
from pti.train.callbacks import Interrupted, StopSignals
from pti.train.size_response import store_response

CPU = torch.device("cpu")
KEY = "size_condition.response"


@pytest.fixture(scope="module")
def run(tmp_path_factory, root) -> Path:
    """The folder of a training whose denoiser is measured to follow 70 % of a change."""
    folder = tmp_path_factory.mktemp("run")
    link = f"autoencoder_ckpt={save_autoencoder(root, folder / 'first' / 'best.ckpt')}"
    settings = (link, "model/size_condition=predicted", "trainer.max_epochs=1", "trust_images=0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(size_response, "measure_response", lambda *_: 0.7)
        return trained(configuration(root, folder, *settings), folder)


def response(folder: Path) -> list[float]:
    return torch.load(folder / "best.ckpt", weights_only=True)["state_dict"][KEY].tolist()


def test_a_training_stores_it_at_its_end(run):
    for name in ("best", "last"):
        condition = open_checkpoint(run / "checkpoints" / f"{name}.ckpt").load_module().size_condition
        assert isinstance(condition, SizeCondition)
        assert condition.response.tolist() == pytest.approx([0.7, 1, 1, 1])


@pytest.fixture
def folder(run, tmp_path) -> Path:
    (tmp_path / "best.ckpt").write_bytes((run / "checkpoints" / "best.ckpt").read_bytes())
    return tmp_path


def test_it_is_measured_without_the_stored_one(folder, monkeypatch):
    def measure(translator, _):
        assert (translator.module.size_condition.response == 1).all()
        return 0.9

    monkeypatch.setattr(size_response, "measure_response", measure)
    store_response(folder, CPU, StopSignals())
    assert response(folder) == pytest.approx([0.9, 1, 1, 1])


def test_a_weak_response_is_a_warning_and_compensated_in_part(folder, monkeypatch, capsys):
    monkeypatch.setattr(size_response, "measure_response", lambda *_: 0.3)
    store_response(folder, CPU, StopSignals())
    assert response(folder) == pytest.approx([0.5, 1, 1, 1])
    warning = capsys.readouterr().err
    assert "best.ckpt: the bone in its images follows 30% of a change" in warning
    assert "data/augmentation=ridges" in warning


def test_without_bone_or_data_the_checkpoint_stays(folder, monkeypatch, capsys):
    def fail(*_):
        raise DataError("no folder")

    before = (folder / "best.ckpt").read_bytes()
    for measure in (lambda *_: None, fail):
        monkeypatch.setattr(size_response, "measure_response", measure)
        store_response(folder, CPU, StopSignals())
        assert (folder / "best.ckpt").read_bytes() == before
    assert "Warning: the response to sizes is not measured: no folder" in capsys.readouterr().err


def test_a_signal_ends_the_work_and_the_checkpoint_stays(folder):
    before, signals = (folder / "best.ckpt").read_bytes(), StopSignals()
    signals.received = signal.SIGTERM
    with pytest.raises(Interrupted):
        store_response(folder, CPU, signals)
    assert (folder / "best.ckpt").read_bytes() == before
