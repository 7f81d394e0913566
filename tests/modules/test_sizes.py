"""Sizes without images: exact targets, scale, missing bone, training on both kinds of input."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers import training_setup
from helpers.second_stage_setup import data_of, module_of, one_step, trained, training_batch
from helpers.training_setup import SIZE
from pti.common.errors import DataError, UsageError
from pti.data import tif
from pti.metrics.bone_agreement import find_bone
from pti.metrics.calibration import QUANTILES
from pti.modules.protocols import SizePredictor, Translator
from pti.modules.size_targets import measure_training_set, relative_sizes
from pti.networks.alignment import Alignment
from pti.networks.size_inputs import SizeInputs
from pti.runs.checkpoint import load
from pti.train.callbacks.metrics_csv import read_metrics

COMMON = [
    *("trainer=cpu", "trainer.max_epochs=3", f"data.image_size={SIZE}", "data.batch_size=4"),
    *("data.num_workers=0", "data.fractions=[0.6,0.2,0.2]", "model.ema_decay=0.9"),
    *("model.network.grid=4", "callbacks.pictures=null", "callbacks.checkpointer.monitor=val/loss"),
]
PIXELS = ["model=sizes", *COMMON, "model.network.channels=[4]", "model.ridge_grid=4"]
LATENTS = ["model=latent_sizes", *COMMON, "model.latent_views=2", "data/augmentation=mild"]
KINDS = [pytest.param(PIXELS, id="pixels"), pytest.param(LATENTS, id="latents")]


def config_of(root: Path, folder: Path, link: str, base: Sequence[str], *overrides: str) -> Any:
    links = [] if base is PIXELS else [link]
    return training_setup.configuration(root, folder, *links, *overrides, base=base)


def pixel_sizes(root: Path, link: str, *overrides: str) -> Any:
    return module_of(config_of(root, root.parent / "unused", link, PIXELS, *overrides))


def block(height: int, width: int) -> torch.Tensor:
    image = torch.zeros(1, 1, SIZE, SIZE)
    image[..., SIZE - height :, :width] = 1000.0 + torch.arange(width)
    return image


def test_a_bone_has_its_sizes_relative_to_the_image_whatever_a_pixel_measures():
    images = torch.cat([block(12, 8), block(12, 8), block(0, 0)])
    sizes = relative_sizes(images, torch.tensor([0.15, 0.6, 0.15]), ("height", "width_half", "area"))
    expected = torch.tensor([12 / SIZE, 8 / SIZE, 96 / SIZE**2])
    torch.testing.assert_close(sizes[:2], expected.expand(2, -1))
    assert sizes[2].isnan().all()


def test_predictions_in_mm_grow_with_the_pixel_and_their_quantiles_ascend(root, link):
    module = pixel_sizes(root, link, "model.measures=[area,height]").eval()
    module.normalization.fit([block(12, 8)[0, 0].numpy()])
    module.shift.copy_(torch.tensor([0.3, 0.5]))
    module.scale.fill_(0.01)
    raw = torch.cat([block(12, 8), block(12, 8)])
    assert isinstance(module, SizePredictor)
    assert not isinstance(module, Translator)
    area, height = module.predict_sizes(raw, torch.tensor([0.2, 0.4])).unbind(1)
    assert height.shape == (2, QUANTILES)
    assert (height.diff() > 0).all()
    torch.testing.assert_close(height[1], 2 * height[0])
    torch.testing.assert_close(area[1], 4 * area[0])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module.predict_sizes(raw, torch.tensor([0.2, 0.4])).unbind(1)[1], height)


def test_targets_without_bone_count_for_nothing(root, link):
    module = pixel_sizes(root, link)
    data = data_of(config_of(root, root.parent / "unused", link, PIXELS))
    module.normalization.fit(data.training_images())
    batch = training_batch(data)
    blank = {**batch, "target": batch["target"].clone()}
    blank["target"][2:] = 0
    half = {name: values[:2] for name, values in batch.items()}
    none = {**batch, "target": 0 * batch["target"]}
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    losses = [one_step(copy.deepcopy(module), part) for part in (blank, half, none)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[2] == 0


@pytest.mark.parametrize("base", KINDS)
def test_training_learns_and_the_checkpoint_predicts_without_other_files(tmp_path, root, link, base):
    config = config_of(root, tmp_path / "run", link, base, "trainer.max_epochs=8", "model.optimizer.lr=3e-2")
    folder = trained(config, tmp_path / "run")
    losses = [row["train/loss"] for row in read_metrics(folder / "metrics.csv")]
    assert losses[-1] < losses[0]
    module = load(folder / "checkpoints" / "best.ckpt")
    assert module.fitted
    file = next((root / "dente").iterdir())
    raw = torch.from_numpy(tif.read(file).pixels)[None, None]
    heights = module.predict_sizes(raw, torch.tensor([0.15]))[0, module.measures.index("height")]
    true = find_bone(tif.read(root / "edente" / file.name).pixels, 0.15).lengths["height"]
    assert abs(float(heights.median()) - true) < 1


def test_training_starts_with_the_ridge_regression_and_its_error(tmp_path, root, link):
    """Without a learning rate, best.ckpt predicts what the regression does."""
    overrides = ("trainer.max_epochs=2", "model.optimizer.lr=0", "model.lr_schedule.warmup_steps=0")
    folder = trained(config_of(root, tmp_path / "run", link, PIXELS, *overrides), tmp_path / "run")
    module = load(folder / "checkpoints" / "best.ckpt").eval()
    raw = torch.stack(
        [torch.from_numpy(tif.read(file).pixels) for file in sorted((root / "dente").iterdir())]
    )
    raw = raw[:, None]
    quantiles = module.predict_sizes(raw, torch.full((len(raw),), 1.0))
    height, middle = module.measures.index("height"), QUANTILES // 2
    images = module.inputs(raw)
    expected = (module.shift + module.scale * module.ridge(images))[:, height] * SIZE
    torch.testing.assert_close(quantiles[:, height, middle], expected, check_dtype=False)
    assert expected.std() > 0
    std = (quantiles[:, height, -1] - quantiles[:, height, 0]) / (2 * 1.959964 * SIZE * module.scale[height])
    torch.testing.assert_close(
        std, (module.ridge.error[height] + 0.02).expand_as(std), check_dtype=False, rtol=1e-3, atol=0
    )


@pytest.mark.parametrize(
    ("settings", "added"),
    [
        (("model.ridge_grid=0", "model.alignment=null"), ("ridge_grid", "alignment")),
        (("model.ridge_grid=4", "model.alignment=null"), ("alignment",)),
    ],
    ids=["regression", "alignment"],
)
def test_checkpoints_of_before_a_part_was_added_still_predict(tmp_path, root, link, settings, added):
    config = config_of(root, tmp_path / "run", link, PIXELS, *settings, "trainer.max_epochs=1")
    folder = trained(config, tmp_path / "run")
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=False)
    for key in added:
        del content["config"]["model"][key]
    torch.save(content, tmp_path / "old.ckpt")
    raw = block(12, 8)
    predicted = [
        load(path).predict_sizes(raw, torch.tensor([0.15]))
        for path in (tmp_path / "old.ckpt", folder / "checkpoints" / "last.ckpt")
    ]
    torch.testing.assert_close(*predicted)


@pytest.mark.parametrize("normalization", ["range", "masked_zscore"])
@pytest.mark.parametrize("alignment", [None, Alignment()], ids=["cells", "aligned"])
def test_the_regression_is_fitted_on_what_it_will_see(root, tmp_path, link, normalization, alignment):
    """Vectors of the training set are those of its images one by one, each normalised as for a prediction."""
    config = config_of(root, tmp_path, link, PIXELS, f"model/normalization={normalization}")
    module, data = module_of(config).eval(), data_of(config)
    if normalization == "range":
        module.normalization.fit(data.training_images())
    reducer = SizeInputs(4, alignment)
    sizes, vectors, patients = measure_training_set(data, module.normalization, ["height"], reducer)
    images = data.training_set()
    assert len(sizes) == len(vectors) == len(patients) == len(images)
    raw = torch.cat([images[0, index]["condition"] for index in range(len(images))])
    torch.testing.assert_close(vectors[:, 0], reducer(module.inputs(raw)), atol=1e-3, rtol=1e-3)
    if alignment is not None:
        background = module.inputs(torch.zeros(1, 1, 4, 4)).unique()
        assert alignment.background == background


def test_cached_latents_come_with_the_sizes_of_their_own_view(tmp_path, root, link):
    """Sizes of an augmented view differ from those of the file, and repeat with the views."""
    module = module_of(config_of(root, tmp_path, link, LATENTS))
    data = data_of(config_of(root, tmp_path, link, LATENTS))
    images = data.training_set()
    names = [sample.name for sample in images.samples]

    class Views:
        views = (0, 1)

    class Trainer:
        datamodule, current_epoch = data, 3

    data.latents = Views()  # type: ignore[assignment]
    module._trainer = Trainer()
    latents = torch.zeros(len(names), 4, SIZE // 2, SIZE // 2)
    sizes = module.sizes_of({"name": names, "condition_mean": latents})
    expected = images.__getitems__([(1, index) for index in range(len(names))])
    of_view = relative_sizes(expected["target"], expected["pixel_mm"], module.measures)
    torch.testing.assert_close(sizes, of_view, equal_nan=True)


def test_a_training_set_without_any_bone_is_refused(tmp_path, link):
    for folder in ("dente", "edente"):
        (tmp_path / "blank" / folder).mkdir(parents=True)
        for patient in range(10):
            pixels = np.zeros((SIZE, SIZE)) if folder == "edente" else block(12, 8)[0, 0].numpy()
            tif.write(tmp_path / "blank" / folder / f"1000_HA_2021_02_{patient}.tif", pixels, 0.15)
    config = config_of(tmp_path / "blank", tmp_path / "run", link, PIXELS)
    with pytest.raises(DataError, match="no edente image"):
        trained(config, tmp_path / "run")


@pytest.mark.parametrize("measures", ["[width_half]", "[height,length]"])
def test_unknown_measures_are_refused(root, link, measures):
    with pytest.raises(Exception, match=r"model\.measures: found") as refused:
        pixel_sizes(root, link, f"model.measures={measures}")
    assert isinstance(refused.value.__cause__, UsageError)


def test_single_images_are_refused(tmp_path, root, link):
    config = config_of(root, tmp_path / "run", link, PIXELS, "data.sources=target")
    with pytest.raises(UsageError, match=r"data\.sources=pairs"):
        trained(config, tmp_path / "run")
