"""The response to sizes in the checkpoints of a finished training."""

import signal
from pathlib import Path

import pytest
import torch

from helpers.second_stage_setup import configuration, save_autoencoder, trained
from pti.common.errors import DataError
from pti.inference.size_response import SizeResponse
from pti.networks.size_condition import SizeCondition
from pti.runs.checkpoint import open_checkpoint
from pti.train import size_response
from pti.train.callbacks import Interrupted, StopSignals
from pti.train.size_response import store_response

CPU = torch.device("cpu")
KEYS = ("size_condition.response", "size_condition.offset")


@pytest.fixture(scope="module")
def run(tmp_path_factory, root) -> Path:
    """The folder of a training whose denoiser is measured to follow 70 % of a change, and to be too low."""
    folder = tmp_path_factory.mktemp("run")
    link = f"autoencoder_ckpt={save_autoencoder(root, folder / 'first' / 'best.ckpt')}"
    settings = (link, "model/size_condition=predicted", "trainer.max_epochs=1", "trust_images=0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(size_response, "measure_response", lambda *_: SizeResponse(0.7, -0.2))
        return trained(configuration(root, folder, *settings), folder)


def response(folder: Path) -> list[float]:
    """Return what the checkpoint holds of the height: its response and its offset."""
    state = torch.load(folder / "best.ckpt", weights_only=True)["state_dict"]
    assert [state[key][1:].tolist() for key in KEYS] == [[1.0] * 3, [0.0] * 3]
    return [float(state[key][0]) for key in KEYS]


def test_a_training_stores_it_at_its_end(run):
    for name in ("best", "last"):
        condition = open_checkpoint(run / "checkpoints" / f"{name}.ckpt").load_module().size_condition
        assert isinstance(condition, SizeCondition)
        assert condition.response.tolist() == pytest.approx([0.7, 1, 1, 1])
        assert condition.offset.tolist() == pytest.approx([-0.2, 0, 0, 0])


@pytest.fixture
def folder(run, tmp_path) -> Path:
    (tmp_path / "best.ckpt").write_bytes((run / "checkpoints" / "best.ckpt").read_bytes())
    return tmp_path


def test_it_is_measured_without_the_stored_one(folder, monkeypatch):
    def measure(translator, _):
        assert (translator.module.size_condition.response == 1).all()
        assert (translator.module.size_condition.offset == 0).all()
        return SizeResponse(0.9, 0.1)

    monkeypatch.setattr(size_response, "measure_response", measure)
    store_response(folder, CPU, StopSignals())
    assert response(folder) == pytest.approx([0.9, 0.1])


@pytest.mark.parametrize(
    ("measured", "stored", "said"),
    [
        (
            SizeResponse(0.3, 0.0),
            [0.5, 0.0],
            "follows 30% of a change of the given height, and is on average as",
        ),
        (
            SizeResponse(0.9, -1.6),
            [0.9, -1.0],
            "follows 90% of a change of the given height, and is on average 1.60",
        ),
    ],
)
def test_what_can_not_be_compensated_is_a_warning(folder, monkeypatch, capsys, measured, stored, said):
    monkeypatch.setattr(size_response, "measure_response", lambda *_: measured)
    store_response(folder, CPU, StopSignals())
    assert response(folder) == pytest.approx(stored)
    warning = capsys.readouterr().err
    assert f"best.ckpt: the bone in its images {said}" in warning
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
