"""The images that a command works on: a folder, or a split of a data set."""

from pathlib import Path
from typing import Any

import pytest

from helpers.tiny_checkpoints import LAYOUT
from pti.common.errors import DataError
from pti.data.phantom import make_phantom
from pti.inference.inputs import find_inputs


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("data") / "phantom"
    make_phantom(root, patients=6, slices=1, image_size=64, seed=1)
    settings = {"root": str(root), "layout": LAYOUT, "fractions": [0.5, 0.25, 0.25], "split_seed": 3}
    return settings | {"sources": "target", "val_root": None, "test_root": None}


def test_a_folder_with_its_subfolders(data):
    root = Path(data["root"])
    inputs = find_inputs(data, "test", "the test", input_dir=root, num_samples=7, skip=root / "edente")
    assert [image.name for image in inputs.images] == sorted(
        f"dente/{path.stem}" for path in (root / "dente").iterdir()
    )
    assert inputs.origin == str(root)
    assert not inputs.splits


def test_the_splits_of_a_data_set(data):
    by_split = {
        split: {image.name for image in find_inputs(data, split, "the test").images}
        for split in ("train", "val", "test")
    }
    everything = find_inputs(data, "all", "the test")
    assert {image.name for image in everything.images} == set.union(*by_split.values())
    assert all(name in by_split[split] for name, split in everything.splits.items())
    assert len(find_inputs(data, "train", "the test", num_samples=2).images) == 2


def test_values_of_the_user_replace_those_of_the_training(data):
    overrides = {"fractions": [1.0, 0.0, 0.0], "sources": "both", "root": None}
    inputs = find_inputs(data, "all", "the test", overrides=overrides)
    assert len(inputs.images) == 12
    assert set(inputs.splits.values()) == {"train"}
    with pytest.raises(DataError, match="its test split is empty"):
        find_inputs(data, "test", "the test", overrides=overrides)


def test_dente_images_with_their_targets_and_the_training_pairs(data):
    inputs = find_inputs(data, "test", "the test", with_targets=True)
    assert {image.path.parent.name for image in inputs.images} == {"dente"}
    assert inputs.targets.keys() == {image.name for image in inputs.images}
    assert {path.parent.name for path in inputs.targets.values()} == {"edente"}
    assert len(inputs.training) == len(find_inputs(data, "train", "the test").images)


def test_links_out_of_the_data_set_must_be_allowed(data, tmp_path):
    linked = {"root": str(tmp_path)}
    for folder in ("dente", "edente"):
        (tmp_path / folder).symlink_to(Path(data["root"], folder))
    with pytest.raises(DataError, match=r"data\.allow_links=true"):
        find_inputs(data | linked, "all", "the test")
    for settings, overrides in (
        (data | linked | {"allow_links": True}, {}),
        (data, linked | {"allow_links": True}),
    ):
        assert len(find_inputs(settings, "all", "the test", overrides=overrides).images) == 6
