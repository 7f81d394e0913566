"""The measured response: slope and offset of the height in a denoiser's images against the height given."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.tiny_checkpoints import SIZE, TRANSLATOR, save
from pti.inference.loaded import LoadedTranslator, open_predictor, predicts_sizes
from pti.inference.size_response import _shrunk_mean, measure_response
from pti.modules.latent_diffusion import LatentDiffusion
from pti.runs.constructors import build

MEAN, SCALE, SPREAD = 0.5, 0.25, 0.8  # heights relative to the edge; standard deviation of the drawn ones


@pytest.fixture(scope="module")
def data(phantom_24: Path) -> Path:
    return phantom_24


@pytest.fixture
def translator(tmp_path: Path, data: Path) -> LoadedTranslator:
    """A model that draws heights with the given mean and spread, whatever the image."""
    model: dict[str, Any] = copy.deepcopy(TRANSLATOR)
    model["network"]["condition_maps"] = 1
    condition = {"_target_": "pti.networks.size_condition.SizeCondition", "measures": ["height"], "grid": 4}
    module = build(model | {"size_condition": condition}, "the test")
    module.size_condition.shift.fill_(MEAN)
    module.size_condition.scale.fill_(SCALE)
    module.size_condition.factor.fill_(SPREAD)
    path = save(tmp_path / "best.ckpt", module, model | {"size_condition": condition}, data, batch_size=8)
    translator = open_predictor(path)
    assert not predicts_sizes(translator)
    return translator


def bones(heights: Tensor) -> Tensor:
    """Rectangles (B, 1, S, S) of heights relative to S; none where the height is 0."""
    images = torch.zeros(len(heights), 1, SIZE, SIZE)
    for image, height in zip(images, heights.tolist(), strict=True):
        image[0, SIZE - 1 - round(height * SIZE) : SIZE - 1, 8:24] = 1000.0 if height > 0 else 0.0
    return images


def answer(
    monkeypatch: pytest.MonkeyPatch,
    ratio: float,
    without_bone: float = -9.0,
    deviation: float = 0.0,
    scatter: float = 0.1,
) -> None:
    """Make translations follow a fraction of the drawn height, and contain no bone below a height.

    Args:
        deviation: Of all heights from the given ones, standardised.
        scatter: Of the images' heights, around that.
    """

    def translate(self: Any, raw: Tensor, generators: Any, *, ranks: Any, **_: Any) -> Tensor:
        given = self.size_condition.draw(raw, generators, ranks)[:, 0]
        seen = torch.arange(len(raw)) / len(raw)  # what a network sees differs between images
        height = deviation + scatter * (seen - seen.mean()) + ratio * given
        return bones(torch.where(given < without_bone, 0.0, MEAN + SCALE * height))

    monkeypatch.setattr(LatentDiffusion, "translate", translate)


@pytest.mark.parametrize("ratio", [0.0, 0.4, 1.0])
def test_it_is_the_share_of_a_change_that_reaches_the_image(translator, monkeypatch, ratio):
    answer(monkeypatch, ratio)
    response = measure_response(translator)
    assert response is not None
    assert response.ratio == pytest.approx(ratio, abs=0.05)  # heights are whole pixels


@pytest.mark.parametrize("deviation", [-0.6, 0.4])
def test_the_offset_is_what_all_images_are_too_high(translator, monkeypatch, deviation):
    answer(monkeypatch, 1.0, deviation=deviation)
    response = measure_response(translator)
    assert response is not None
    assert response.offset == pytest.approx(deviation, abs=0.07)


def test_an_offset_that_chance_explains_is_0(translator, monkeypatch):
    answer(monkeypatch, 1.0, deviation=0.1, scatter=4.0)
    response = measure_response(translator)
    assert response is not None
    assert abs(response.offset) < 0.05


def test_slices_of_a_patient_do_not_make_an_offset_more_certain():
    patients = ["a", "b", "c", "d"]
    values = np.array([0.1, 0.5, 0.3, np.nan])
    expected = 0.3 * (1 - (0.2 / np.sqrt(3) / 0.3) ** 2)  # three patients with bone
    assert _shrunk_mean(values, patients) == pytest.approx(expected)
    assert _shrunk_mean(values.repeat(5), np.repeat(patients, 5).tolist()) == pytest.approx(expected)
    assert _shrunk_mean(values[:1].repeat(5), ["a"] * 5) == 0


def test_samples_without_bone_are_left_out(translator, monkeypatch):
    answer(monkeypatch, 0.7, without_bone=-0.5)
    response = measure_response(translator)
    assert response is not None
    assert response.ratio == pytest.approx(0.7, abs=0.07)


def test_without_any_bone_there_is_no_response(translator, monkeypatch):
    answer(monkeypatch, 0.7, without_bone=9.0)
    assert measure_response(translator) is None


def test_it_can_be_stopped(translator):
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_response(translator, stop)
