"""Options of the data groups and of the normalization: each builds what its file describes."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from pti.common.conf_dir import CONF_DIR
from pti.data.augment import Augmentation
from pti.data.layouts import PATIENT_PATTERN
from pti.modules.tif_data import TifDataModule

GROUPS = ("data/layout", "data/augmentation", "data/generate/style", "model/normalization")
OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((CONF_DIR / group).glob("*.yaml"))]


def _composed(*overrides: str):
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("benchmark", overrides=["+data=tif", "data.root=/nowhere", *overrides])


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_builds(group: str, option: str) -> None:
    sign = "" if group in ("data/layout", "data/augmentation") else "+"
    seed = ["+data.generate.seed=0"] if "generate" in group else []
    config = _composed(f"{sign}{group}={option}", *seed)
    built = instantiate(OmegaConf.select(config, group.replace("/", ".")))
    assert (built is None) == (option == "none")


def test_defaults() -> None:
    config = _composed().data
    data = instantiate(config, _convert_="all")
    assert isinstance(data, TifDataModule)
    assert data.augmentation is None
    assert config.layout.patient_pattern == PATIENT_PATTERN
    assert isinstance(instantiate(_composed("data/augmentation=mild").data).augmentation, Augmentation)


def test_phantom_makes_its_folder(tmp_path: Path) -> None:
    small = [
        "image_size=64",
        "generate.image_size=64",
        "generate.patients=4",
        "generate.slices=1",
        "batch_size=2",
    ]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        folders = [f"data.root={tmp_path / 'phantom'}", f"data.cache_dir={tmp_path / 'cache'}"]
        config = compose(
            "benchmark", overrides=["+data=phantom", *folders, *(f"data.{one}" for one in small)]
        )
    data = instantiate(config.data, _convert_="all")
    data.prepare_data()
    data.setup("fit")
    assert sum(counts["patients"] for counts in data.split_counts().values()) == 4
    assert next(iter(data.train_dataloader()))["target"].shape[1:] == (1, 64, 64)
