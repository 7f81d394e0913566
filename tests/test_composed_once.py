"""Compositions that `helpers.composed_once` remembers equal Hydra's own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf

from helpers import composed_once
from pti.common.conf_dir import CONF_DIR

LINES = [
    ("train", ["experiment=smoke_ldm", "seed=1", "+model.new={a: 1}"]),
    ("train", ["experiment=vae_demo", "model/extra_losses=[gradient]", "~callbacks.pictures", "group=a"]),
    ("train", ["experiment=vae_demo", "model/extra_losses=[]", "model.kl_weight=1e-3"]),
    ("evaluate", ["ckpt=best:smoke", "sampler=euler", "hydra.job.name=other"]),
    ("evaluate", ["ckpt=best:smoke", "~sampler"]),
]


@pytest.fixture
def original() -> Iterator[None]:
    """Use Hydra's own functions."""
    composed_once.uninstall()
    yield
    composed_once.install()


def composed(verb: str, words: list[str], folder: Path = CONF_DIR) -> tuple[Any, str]:
    """Return a configuration before interpolation: as containers, and as text, whose order counts."""
    with initialize_config_dir(str(folder), version_base="1.3"):
        config = compose(verb, words, return_hydra_config=True)
    return OmegaConf.to_container(config), OmegaConf.to_yaml(config)


@pytest.mark.parametrize(("verb", "words"), LINES)
def test_they_equal_hydras_own(request: pytest.FixtureRequest, verb: str, words: list[str]):
    remembered = [composed(verb, words) for _ in range(2)]
    request.getfixturevalue("original")
    assert remembered == [composed(verb, words)] * 2


def test_what_a_test_changes_in_one_is_not_in_the_next():
    for _ in range(2):
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            config = compose("train", ["experiment=smoke"])
        assert config.group != "changed"
        config.group, config.model.kl_weight = "changed", 7


def test_a_wrong_option_is_refused_each_time():
    for _ in range(2):
        with pytest.raises(MissingConfigException):
            composed("train", ["experiment=smok"])


def test_another_folder_is_read_each_time(tmp_path: Path):
    for value in (1, 2):
        (tmp_path / "train.yaml").write_text(f"value: {value}\n")
        assert composed("train", [], tmp_path)[0]["value"] == value
