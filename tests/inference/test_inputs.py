"""The images that a command works on: a folder, or a split of a data set."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.tiny_checkpoints import LAYOUT
from pti.common.errors import DataError, UsageError
from pti.data import tif
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


def pictures(folder: Path, *names: str) -> Path:
    """Write grey PNG files."""
    folder.mkdir()
    for number, name in enumerate(names):
        Image.fromarray(np.full((20, 16), 10 + number, np.uint8)).save(folder / f"{name}.png")
    return folder


def test_other_formats_are_converted_with_the_given_pixel_size(data, tmp_path, capsys):
    folder = pictures(tmp_path / "png", "1000_HA_2021_02_545", "1001_HA_2021_02_546")
    settings: dict[str, Any] = {
        "input_dir": folder,
        "converted_dir": tmp_path / "out" / "converted_inputs",
        "pixel_mm": 0.2,
    }
    inputs = find_inputs(data, "test", "the test", **settings)
    assert [(image.name, image.patient) for image in inputs.images] == [
        ("1000_HA_2021_02_545", "545"),
        ("1001_HA_2021_02_546", "546"),
    ]
    read = [tif.read(image.path) for image in inputs.images]
    assert [float(image.pixels[0, 0]) for image in read] == [10, 11]
    assert [image.pixel_mm for image in read] == pytest.approx([0.2, 0.2])
    assert "2 images were converted" in capsys.readouterr().out
    times = [image.path.stat().st_mtime_ns for image in inputs.images]
    again = find_inputs(data, "test", "the test", **settings)
    assert [image.path.stat().st_mtime_ns for image in again.images] == times  # a run can resume
    with pytest.raises(UsageError, match="another output_dir"):
        find_inputs(data, "test", "the test", **{**settings, "pixel_mm": 0.3})


def test_pictures_beside_tifs_are_no_inputs(data, tmp_path):
    folder = pictures(tmp_path / "both", "picture")
    tif.write(folder / "image.tif", np.ones((20, 16)), 0.15)
    inputs = find_inputs(data, "test", "the test", input_dir=folder, converted_dir=tmp_path / "out")
    assert [image.path for image in inputs.images] == [folder / "image.tif"]
    with pytest.raises(UsageError, match="omit pixel_mm"):
        find_inputs(data, "test", "the test", input_dir=folder, converted_dir=tmp_path / "out", pixel_mm=0.2)


def test_every_unusable_image_is_named(data, tmp_path):
    folder = pictures(tmp_path / "png", "a", "b", "c")
    for name in "ac":
        Image.new("RGB", (20, 16)).save(folder / f"{name}.png")
    with pytest.raises(DataError, match=r"(?s)2 of 3 images.*a\.png: found colour.*c\.png: found colour"):
        find_inputs(data, "test", "the test", input_dir=folder, converted_dir=tmp_path / "out")


def test_commands_without_conversion_take_tifs_only(data, tmp_path):
    folder = pictures(tmp_path / "png", "a")
    with pytest.raises(DataError, match=r"contains no \.tif or \.tiff file"):
        find_inputs(data, "test", "the test", input_dir=folder)
