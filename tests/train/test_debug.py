"""Short trainings that look for faults (``debug=…``): what they do; nothing takes them for real ones."""

import json

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from helpers.training_setup import TINY, configuration
from pti.cli.overrides import check_command_line
from pti.common.conf_dir import CONF_DIR
from pti.common.errors import UsageError
from pti.runs.locate import resolve
from pti.train.callbacks.metrics_csv import read_metrics
from pti.train.run import train

OPTIONS = sorted(path.stem for path in (CONF_DIR / "debug").glob("*.yaml"))
UNLIMITED = [setting for setting in TINY if not setting.startswith(("trainer.max_epochs", "model.ema_decay"))]


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("experiment", ["smoke", "ldm_demo", "sizes"])
def test_every_kind_of_model_has_them(experiment: str, option: str):
    check_command_line("train", [f"experiment={experiment}", f"debug={option}"])


@pytest.mark.parametrize("option", OPTIONS)
def test_their_checkpoints_are_not_found_by_name(tmp_path, option):
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose("train", ["experiment=smoke", f"debug={option}"], return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        folder = tmp_path / config.output_dir
    assert folder.name.startswith(option)
    for name in ("best", "last"):
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        (folder / "checkpoints" / f"{name}.ckpt").touch()
        for asked in (name, f"{name}:smoke", f"{name}:debug"):
            with pytest.raises(UsageError, match=asked):
                resolve(asked, tmp_path / "outputs")


def test_limit_goes_through_every_part_of_a_training(root, tmp_path):
    assert train(configuration(root, tmp_path, "debug=limit", base=UNLIMITED), tmp_path) == 0
    assert json.loads((tmp_path / "summary.json").read_text())["figures"]["steps"] == 9
    assert len(read_metrics(tmp_path / "metrics.csv")) == 3


def test_profile_writes_its_table(root, tmp_path):
    assert train(configuration(root, tmp_path, "debug=profile", base=UNLIMITED), tmp_path) == 0
    table = (tmp_path / "fit-profile.txt").read_text()
    assert "run_training_batch" in table
    assert json.loads((tmp_path / "summary.json").read_text())["artefacts"]["profile"] == "fit-profile.txt"


@pytest.mark.slow
def test_overfit_learns_one_batch_by_heart(root, tmp_path):
    settings = ("debug=overfit", "model.generator_optimizer.lr=3e-3", "model/adversarial=none")
    assert train(configuration(root, tmp_path, *settings, base=UNLIMITED), tmp_path) == 0
    losses = [row["train/reconstruction"] for row in read_metrics(tmp_path / "metrics.csv")]
    assert len(losses) == 200
    assert losses[-1] < losses[0] / 5
    assert json.loads((tmp_path / "summary.json").read_text())["figures"]["steps"] == 200
