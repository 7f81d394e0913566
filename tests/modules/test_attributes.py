"""Attributes in the latents: their definition, what training compares, the table of measures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor

from helpers.training_setup import configuration
from pti.common.errors import UsageError
from pti.data import tif
from pti.metrics.bone_agreement import find_bone
from pti.modules.attributes import LatentAttributes, attributes_of, stretch_bones
from pti.modules.measure_table import MeasureTable
from pti.modules.size_targets import relative_sizes
from pti.runs.checkpoint import open_checkpoint
from pti.train.callbacks.metrics_csv import read_metrics
from pti.train.run import train

pytestmark = pytest.mark.usefixtures("without_curves")

EDGE = 64


def blocks(*sizes: tuple[int, int]) -> Tensor:
    """Bones of (height, width) pixels above the same row, each around another column."""
    images = torch.zeros(len(sizes), 1, EDGE, EDGE)
    for index, (height, width) in enumerate(sizes):
        left = 10 + 3 * index
        images[index, 0, 56 - height : 56, left : left + width] = 1000.0
    return images


def batch_of(images: Tensor, *names: str) -> dict[str, Any]:
    return {"image": images, "pixel_mm": torch.full((len(images),), 0.6), "name": list(names)}


def test_a_move_adds_to_its_attribute_and_changes_no_other_channel():
    attributes = LatentAttributes(["height", "width_half"])
    latents, steps = torch.randn(3, 4, 5, 6), torch.tensor([[1.0, 0.0], [0.0, -2.0], [0.5, 0.5]])
    moved = attributes.move(latents, steps)
    torch.testing.assert_close(attributes.read(moved), attributes.read(latents) + steps)
    assert torch.equal(moved[:, 2:], latents[:, 2:])
    assert torch.equal(moved[1, 0], latents[1, 0])


def test_stretching_changes_height_and_width_and_keeps_the_base():
    images = blocks((30, 20), (24, 16), (30, 20))
    images[2] = 0
    stretched = stretch_bones(images, 0.3, torch.Generator().manual_seed(3))
    assert torch.equal(stretched, stretch_bones(images, 0.3, torch.Generator().manual_seed(3)))
    factors = 1 + 0.3 * (2 * torch.rand(3, 2, generator=torch.Generator().manual_seed(3)) - 1)
    assert (factors[:2] - 1).abs().max() > 0.1
    for before, after, (across, upwards) in zip(
        images[:2, 0], stretched[:2, 0], factors[:2].tolist(), strict=True
    ):
        old, new = (find_bone(image.numpy(), 1.0).size for image in (before, after))
        assert new.height == pytest.approx(old.height * upwards, abs=1)
        assert new.width_half == pytest.approx(old.width_half * across, abs=1)
        assert new.base_row == old.base_row
    assert not stretched[2].any()


def test_training_compares_the_measured_images_and_their_stretched_ones():
    attributes = LatentAttributes(["height", "width_at_22mm"])
    batch = batch_of(blocks((30, 20), (40, 16)), "a", "b")
    inputs = attributes.training_inputs(batch, "target", torch.Generator().manual_seed(0))
    assert torch.equal(inputs["sizes"][:2].isnan(), torch.tensor([[False, True], [False, False]]))
    expected = relative_sizes(inputs["stretched"], batch["pixel_mm"], attributes.measures)
    torch.testing.assert_close(inputs["sizes"][2:, 0], expected[:, 0])
    torch.testing.assert_close(inputs["changes"][:, 0], (expected - inputs["sizes"][:2])[:, 0])
    assert inputs["changes"].isfinite().all()


def test_the_spread_is_that_within_dente_and_within_edente_images():
    attributes = LatentAttributes(["height"])
    names = ("dente/a", "dente/b", "edente/a", "edente/b")
    batch = batch_of(blocks((40, 20), (44, 20), (20, 20), (24, 20)), *names)
    attributes.fit([batch], "both")
    assert attributes.fitted
    within = torch.tensor([-2.0, 2, -2, 2]).std() / EDGE
    assert attributes.scale.item() == pytest.approx(within.item())


def test_a_measure_that_does_not_vary_is_refused():
    batch = batch_of(blocks((40, 20), (40, 24)), "a", "b")
    with pytest.raises(UsageError, match="2 values of height in the training images, expected"):
        LatentAttributes(["height"]).fit([batch], "target")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"measures": ["depth"]}, "measures="),
        ({"measures": []}, "expected one or more"),
        ({"measures": ["height", "height"]}, "different"),
        ({"stretch": 1.5}, "stretch=1.5"),
    ],
)
def test_mistakes(settings: dict[str, Any], named: str):
    with pytest.raises(UsageError, match=named):
        LatentAttributes(**settings)


def test_more_measures_than_channels_are_refused():
    with pytest.raises(UsageError, match="at most 1, the number of"):
        LatentAttributes(["height", "area"]).require_channels(1)


def table(folder: Path, text: str) -> Path:
    (folder / "measures.csv").write_text(text)
    return folder / "measures.csv"


def test_a_table_gives_each_image_its_own_row(tmp_path: Path):
    path = table(
        tmp_path, "name,role,height_mm,area_mm2\nx,condition,30,300\nx,target,20,\ny,target,21,200\n"
    )
    measures = MeasureTable(path, ["height", "area"])
    both = measures.rows(["dente/x", "edente/x", "edente/z"], "both")
    expected = torch.tensor([[30.0, 300], [20, torch.nan], [torch.nan, torch.nan]])
    torch.testing.assert_close(both, expected, equal_nan=True)
    torch.testing.assert_close(measures.rows(["y"], "target"), torch.tensor([[21.0, 200]]))
    attributes = LatentAttributes(["height", "area"], table=path)
    sizes = attributes.sizes_of(batch_of(blocks((30, 20)), "y"), "target")
    torch.testing.assert_close(sizes, torch.tensor([[21 / 38.4, 200 / 38.4**2]]))


def test_a_table_is_read_at_its_first_use_and_its_faults_are_named(tmp_path: Path):
    with pytest.raises(UsageError, match="can't be read"):
        MeasureTable(tmp_path / "none.csv", ["height"]).rows(["x"], "target")
    with pytest.raises(UsageError, match="no column height_mm"):
        MeasureTable(table(tmp_path, "name,area_mm2\n"), ["height"]).rows(["x"], "target")
    with pytest.raises(UsageError, match="line 2"):
        MeasureTable(table(tmp_path, "name,height_mm\nx,tall\n"), ["height"]).rows(["x"], "target")


def test_attributes_are_trained_and_are_part_of_the_checkpoint(root: Path, tmp_path: Path):
    config = configuration(root, tmp_path, "model/attributes=bone_sizes", "trainer.max_epochs=1")
    assert train(config, tmp_path) == 0
    row = read_metrics(tmp_path / "metrics.csv")[-1]
    assert 0 < row["train/order"] < 2
    assert row["train/steering"] > 0
    attributes = attributes_of(open_checkpoint(tmp_path / "checkpoints" / "last.ckpt").load_module())
    assert attributes is not None
    assert attributes.fitted
    assert 0 < attributes.scale.max() < 1


def test_a_model_without_attributes_has_no_further_weights(root: Path, tmp_path: Path):
    module = instantiate(configuration(root, tmp_path).model)
    assert attributes_of(module) is None
    assert not [name for name in module.state_dict() if "attributes" in name]


WALKED = [
    *("model/autoencoder=local", "model.autoencoder.channels=[8,16]", "model.autoencoder.norm_num_groups=4"),
    *("model/attributes=bone_sizes", "model.attributes.stretch=0.2", "model.disc_start=100000"),
    *("data/layout=single", "data.pixel_mm=1.0"),
    *("data.image_size=32", "data.batch_size=8", "trainer.max_epochs=40", "trainer.limit_val_batches=0"),
    *("model.generator_optimizer.lr=3e-3", "model.ema_decay=null", "callbacks.checkpointer.monitor=null"),
]


@pytest.mark.slow
def test_walks_change_the_height_and_hardly_the_width(tmp_path: Path):
    """Blocks of independent height and width; the walks start from blocks that training hasn't seen."""
    random = np.random.default_rng(0)
    data = tmp_path / "blocks"
    data.mkdir()
    for patient in range(60):
        height, width, left = random.integers([14, 9, 6], [21, 14, 10])
        pixels = np.zeros((32, 32), np.float32)
        pixels[28 - height : 28, left : left + width] = random.uniform(900, 1100, (height, width))
        tif.write(data / f"1000_HA_2021_02_{patient}.tif", pixels, 1.0)
    run = tmp_path / "run"
    assert train(configuration(data, run, *WALKED), run) == 0
    module: Any = open_checkpoint(run / "checkpoints" / "last.ckpt").load_module()
    raw = torch.zeros(2, 1, 32, 32)
    raw[0, 0, 11:28, 8:19], raw[1, 0, 13:28, 7:17] = 1000.0, 1000.0
    steps = torch.linspace(-1.5, 1.5, 7)
    for index in range(2):
        mean = module.encode(raw[[index]]).mean.expand(7, -1, -1, -1)
        moved = module.attributes.move(mean, torch.stack([steps, torch.zeros(7)], 1))
        decoded = module.decode(moved, module.normalization.statistics(raw[[index]]).expand(7, -1))
        sizes = relative_sizes(decoded, torch.ones(7), ["height", "width_half"])
        assert torch.corrcoef(torch.stack([steps, sizes[:, 0]]))[0, 1] > 0.95
        assert (sizes[-1, 0] - sizes[0, 0]) / module.attributes.scale[0] == pytest.approx(3, abs=1)
        assert (sizes[:, 1] - sizes[3, 1]).abs().max() <= 1.5 / 32
