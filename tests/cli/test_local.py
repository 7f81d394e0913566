"""One's own defaults in ``conf/local``: every command reads them, git ignores them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from helpers.training_setup import environment
from pti.__main__ import VERBS
from pti.common.conf_dir import CONF_DIR

REPOSITORY = Path(__file__).parents[2]
OWN = """# @package _global_
defaults:
  - override /logger: csv

group: mine
data:
  root: /mine
trainer:
  max_epochs: 7
"""


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    shutil.copytree(CONF_DIR, tmp_path / "conf", ignore=shutil.ignore_patterns("local"))
    (tmp_path / "conf" / "local").mkdir()
    return tmp_path / "conf"


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_reads_its_file(conf: Path, verb: str):
    (conf / "local" / f"{verb}.yaml").write_text("# @package _global_\noutput_dir: mine\n")
    with initialize_config_dir(str(conf), version_base="1.3"):
        assert compose(verb).output_dir == "mine"


def test_experiments_and_the_command_line_come_before_them(conf: Path):
    (conf / "local" / "train.yaml").write_text(OWN)
    with initialize_config_dir(str(conf), version_base="1.3"):
        config = compose("train", ["experiment=smoke", "group=typed"])
        baseline = compose("train", ["experiment=vae_baseline"])
    assert list(config.logger) == ["csv"]
    assert (config.group, config.data.root, config.trainer.max_epochs) == (
        "typed",
        "outputs/phantom_smoke",
        2,
    )
    assert (baseline.group, baseline.data.root) == ("mine", "/mine")


def test_an_installed_wheel_takes_a_folder(tmp_path: Path):
    (tmp_path / "own" / "local").mkdir(parents=True)
    (tmp_path / "own" / "local" / "train.yaml").write_text(OWN)
    command = [
        sys.executable,
        "-m",
        "pti.train",
        "--config-dir",
        "own",
        "--cfg",
        "job",
        "experiment=vae_baseline",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert "group: mine" in done.stdout


def test_git_ignores_them():
    assert "/conf/local/" in (REPOSITORY / ".gitignore").read_text().splitlines()
