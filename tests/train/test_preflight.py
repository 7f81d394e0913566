"""Checks of the command line of ``train``, and overrides that place a run in its folder."""

import importlib.util
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from unittest.mock import Mock

import pytest
from hydra.utils import instantiate
from lightning.pytorch.strategies import DDPStrategy

from helpers.training_setup import arguments, configuration, environment, start
from pti.cli.overrides import check_command_line
from pti.common.errors import DataError, UsageError
from pti.train.__main__ import preflight
from pti.train.requeue import create_folder


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def check(root: Path, *overrides: str) -> list[str]:
    return check_command_line("train", arguments(root, *overrides), preflight).extra


@pytest.mark.parametrize("key", ["gradient_clip_val", "accumulate_grad_batches"])
@pytest.mark.parametrize("plus", ["", "+"])
def test_trainer_keys_that_belong_to_the_model(root, key, plus):
    with pytest.raises(UsageError, match=rf"model\.{key}"):
        check(root, f"{plus}trainer.{key}=2")


def test_a_table_of_measures_that_is_not_there(root):
    with pytest.raises(UsageError, match=r"model\.attributes\.table=none\.csv: expected a file"):
        check(root, "model/attributes=bone_sizes", "model.attributes.table=none.csv")


@pytest.mark.parametrize("name", ["nowhere.ckpt", "last", "best", "last:vae_demo"])
def test_a_checkpoint_that_is_not_there_is_an_error(root, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=name):
        check(root, f"ckpt_path={name}")


def test_last_resumes_in_its_folder_and_others_branch(root, tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    for name in ("last.ckpt", "best.ckpt"):
        (run / "checkpoints" / name).touch()
    extra = check(root, f"ckpt_path='{run}/checkpoints/last.ckpt'")
    assert f"output_dir='{run}'" in extra
    assert any(text.startswith("hydra.output_subdir=.hydra/resumed_") for text in extra)
    placed, resumed = check(root, f"ckpt_path='{run}/checkpoints/best.ckpt'")
    assert placed.startswith("hydra.run.dir='outputs/")
    assert resumed == f"ckpt_path='{run}/checkpoints/best.ckpt'"


def test_last_is_that_of_the_chosen_folder(root, tmp_path):
    for run in ("mine", "outputs/None/newer"):
        (tmp_path / run / "checkpoints").mkdir(parents=True)
        (tmp_path / run / "checkpoints" / "last.ckpt").touch()
    assert f"output_dir='{tmp_path}/mine'" in check(root, "output_dir=mine", "ckpt_path=last")
    assert f"output_dir='{tmp_path}/outputs/None/newer'" in check(root, "ckpt_path=last")


def test_a_resumed_second_stage_needs_no_first_one(root, tmp_path):
    missing = ["autoencoder_ckpt=best:gone", "output_dir=mine"]
    for more in ([], ["resume=auto"]):
        with pytest.raises(UsageError, match="best:gone"):
            check(root, *missing, *more)
    (tmp_path / "mine" / "checkpoints").mkdir(parents=True)
    (tmp_path / "mine" / "checkpoints" / "last.ckpt").touch()
    for resumed in ("resume=auto", "ckpt_path=last"):
        assert f"ckpt_path='{tmp_path}/mine/checkpoints/last.ckpt'" in check(root, *missing, resumed)


def test_runs_of_the_same_second_get_a_folder_each(root, monkeypatch):
    monkeypatch.setattr("hydra.core.utils.datetime", Mock(now=lambda: datetime(2026, 1, 2, 3, 4, 5)))
    folders = [Path(check(root)[0].split("=")[1].strip("'")) for _ in range(3)]
    assert [folder.name for folder in folders] == [f"2026-01-02_03-04-05{end}" for end in ("", "_2", "_3")]
    assert all(folder.is_dir() for folder in folders)
    assert check(root, "output_dir=mine") == check(root, "hydra.run.dir=mine") == []
    assert check_command_line("train", ["-m", *arguments(root, "seed=1,2")], preflight).jobs
    assert len(list(folders[0].parent.iterdir())) == 3


def test_no_two_processes_create_the_same_folder(tmp_path):
    with ThreadPoolExecutor(20) as pool:
        folders = list(pool.map(create_folder, [tmp_path / "runs" / "now"] * 20))
    assert len(set(folders)) == 20


def test_a_folder_that_cannot_be_created(tmp_path):
    (tmp_path / "outputs").touch()
    with pytest.raises(DataError, match=r"output_dir=.*can't be created"):
        create_folder(tmp_path / "outputs" / "experiment" / "now")


@pytest.mark.slow
def test_two_runs_start_in_the_same_second(root, tmp_path):
    program = (
        "import hydra.core.utils\nfrom unittest.mock import Mock\nfrom datetime import datetime\n"
        "hydra.core.utils.datetime = Mock(now=lambda: datetime(2026, 1, 2, 3, 4, 5))\n"
        "import pti.train.__main__\npti.train.__main__.main()\n"
    )
    line = arguments(root, "trainer.max_epochs=1")
    processes = [start(tmp_path, *line, program=["-c", program]) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    runs = sorted(path.parents[1] for path in tmp_path.glob("outputs/*/*/checkpoints/last.ckpt"))
    assert [run.name for run in runs] == ["2026-01-02_03-04-05", "2026-01-02_03-04-05_2"]


@pytest.mark.parametrize("experiment", ["smoke", "vae_demo"])
def test_a_root_that_the_user_names_is_never_generated(tmp_path, experiment):
    missing, overrides = tmp_path / "typo", [f"experiment={experiment}"]
    assert check_command_line("train", overrides, preflight)
    for named in (f"data.root={missing}", f"data.root={tmp_path},{missing}"):
        with pytest.raises(UsageError, match=r"data\.root=.*typo: expected a folder, found nothing"):
            check_command_line("train", ["-m", *overrides, named], preflight)


@pytest.mark.parametrize("package", ["mlflow", "wandb"])
def test_a_logger_without_its_package(root, monkeypatch, package):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else find_spec(name)
    )
    with pytest.raises(UsageError, match=rf"pip install 'pti\[{package}\]'"):
        check(root, f"logger={package}")


def test_processes_started_from_outside_share_a_folder(root, monkeypatch):
    for name, value in {"LOCAL_RANK": "1", "RANK": "1", "TORCHELASTIC_RUN_ID": "run7"}.items():
        monkeypatch.setenv(name, value)
    assert check(root)[0].endswith("/job_run7'")
    assert "hydra.output_subdir=null" in check(root)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(UsageError, match="output_dir"):
        check(root)
    assert check(root, "output_dir=run") == ["hydra.output_subdir=null"]


def test_a_missing_data_root(root):
    with pytest.raises(UsageError, match=r"data\.root"):
        check(root, "data.root=/nowhere")


def test_a_path_that_hydra_would_interpolate(root, tmp_path, monkeypatch):
    (tmp_path / "a${b}").mkdir()
    with pytest.raises(UsageError, match=r"data\.root=a\$\{b\}: .* Rename the folder"):
        check(root, "data.root='a\\${b}'")
    monkeypatch.chdir(tmp_path / "a${b}")
    with pytest.raises(UsageError, match=r"output_dir=.*a\$\{b\}/outputs.*: .* Rename the folder"):
        check(root)


def test_the_preflight_imports_nothing_heavy(root, tmp_path):
    program = (
        "import sys\nsys.argv = ['train', *sys.argv[1:]]\n"
        "import pti.train.__main__\nfrom pti.cli.overrides import check_command_line\n"
        "check_command_line('train', sys.argv[1:], pti.train.__main__.preflight)\n"
        "heavy = {'torch', 'numpy', 'lightning', 'monai'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments(root)], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_ddp_trainers_carry_their_strategy(root, tmp_path):
    strategy = configuration(root, tmp_path, "trainer=ddp_cpu").trainer.strategy
    assert isinstance(instantiate(strategy), DDPStrategy)
    assert strategy == configuration(root, tmp_path, "trainer=ddp").trainer.strategy
