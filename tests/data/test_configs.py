"""Options of the data groups and of the normalization: each builds what its file describes."""

from pathlib import Path

import numpy as np
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


def test_shifts_move_an_image_and_keep_its_shape() -> None:
    augmentation = instantiate(_composed("data/augmentation=shifts").data).augmentation
    y, x = np.mgrid[:64, :64]
    image = np.where(np.hypot(y - 30, (x - 28) * 1.4) < 14, 3.0 + np.sin(x / 5), 0.0).astype(np.float32)[None]
    before = _moments(image)
    moved = [_moments(augmentation(image, 0, 0, name)) for name in "abcdef"]
    assert all(np.hypot(*(row[:2] - before[:2])) <= 2**0.5 * 0.03 * 64 for row in moved)
    assert np.ptp([row[0] for row in moved]) > 0.5
    assert np.ptp([row[1] for row in moved]) > 0.5
    for row in moved:
        np.testing.assert_allclose(row[2:5], before[2:5], rtol=0.02, atol=0.5)
        assert row[5] == pytest.approx(before[5], rel=0.2)  # a mirrored image has the other sign


def _moments(image: np.ndarray) -> np.ndarray:
    """Return the centroid, the three central second moments and the third one across, in pixels."""
    y, x = np.mgrid[: image.shape[1], : image.shape[2]]
    weight = image[0] / image[0].sum()
    down, across = (weight * y).sum(), (weight * x).sum()
    y, x = y - down, x - across
    return np.array([down, across, *((weight * power).sum() for power in (y * y, x * x, x * y, x**3))])


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
