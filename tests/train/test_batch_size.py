"""Search for the largest batch size that fits, with devices whose small memory is simulated."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from helpers.in_process import run_command
from helpers.small_memory import SIZES
from helpers.training_setup import arguments, configuration, environment
from pti.cli.overrides import check_command_line
from pti.common.errors import DataError, UsageError
from pti.runs.checkpoint import read
from pti.train.__main__ import main, preflight
from pti.train.batch_size import choose_batch_size, gpus, largest

MODEL = ("model._target_=helpers.small_memory.SmallMemory", "trainer.max_epochs=1")


@pytest.mark.parametrize("limit", [1, 7, 100, 1024])
@pytest.mark.parametrize("capacity", [0, 1, 2, 3, 5, 8, 13, 63, 64, 65, 200, 5000])
def test_the_largest_size_is_found_to_an_eighth_in_few_trials(capacity: int, limit: int):
    tried = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= capacity

    found, best = largest(fits, limit), min(capacity, limit)
    assert found <= best < found + max(1, found // 8) + (found == 0)
    assert max(tried) <= limit
    assert len(tried) == len(set(tried)) <= 15


def test_it_is_a_value_for_training_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert check_command_line("train", ["experiment=smoke", "data.batch_size=auto"]).overridden
    for verb, value in (("check", "auto"), ("train", "many")):
        with pytest.raises(UsageError, match=f"batch_size='{value}': expected a whole number"):
            check_command_line(verb, [f"data.batch_size={value}"])


def test_it_is_refused_where_nothing_can_be_measured(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    auto = arguments(root, "data.batch_size=auto")
    with pytest.raises(UsageError, match=r"debug=overfit.*data\.batch_size=8"):
        check_command_line("train", [*auto, "debug=overfit"], preflight)
    refused = run_command(main, tmp_path, *auto, code=2).stderr
    assert "measures what fits on a GPU" in refused
    for name, value in {"LOCAL_RANK": "0", "RANK": "0", "TORCHELASTIC_RUN_ID": "run7"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=r"torchrun.*data\.batch_size=8"):
        check_command_line("train", auto, preflight)


def test_the_gpus_are_those_of_the_training(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert gpus({"accelerator": "auto", "devices": "auto"}, 2) == [0, 1]
    assert gpus({"accelerator": "gpu", "devices": [1, 3]}, 2) == [1, 3]
    with pytest.raises(UsageError, match="CPU"):
        gpus({"accelerator": "cpu", "devices": 2}, 2)


@pytest.mark.slow
@pytest.mark.timeout(900)  # it starts several processes
def test_the_number_of_the_smallest_device_is_recorded_and_a_resumed_run_keeps_it(
    root, tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    monkeypatch.setattr("pti.train.__main__.gpus", lambda trainer, count: [0, 1])
    command = arguments(root, *MODEL, "data.batch_size=auto", "output_dir=run")
    printed = run_command(main, tmp_path, *command).stdout
    assert f"data.batch_size={min(SIZES)} is the largest that fits" in printed
    folder = tmp_path / "run"
    assert read(folder / "checkpoints" / "last.ckpt")["config"]["data"]["batch_size"] == min(SIZES)
    assert OmegaConf.load(folder / "config.yaml").data.batch_size == min(SIZES)
    monkeypatch.setattr("pti.train.__main__.choose_batch_size", lambda *_: pytest.fail("searched again"))
    run_command(main, tmp_path, *command, "ckpt_path=last", "trainer.max_epochs=2")
    assert read(folder / "checkpoints" / "last.ckpt")["epoch"] == 1


@pytest.mark.slow
def test_a_fault_of_the_data_is_reported_as_in_training(root, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    config: Any = OmegaConf.to_container(configuration(root, tmp_path / "run", *MODEL))
    config["data"]["root"] = str(Path(root).with_name("missing"))
    with pytest.raises(DataError, match="missing"):
        choose_batch_size(config, [0])
