"""The survey: warnings about images unlike the training's, and images that can't be used."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers.image_sets import disc
from pti.common.errors import DataError
from pti.data import tif
from pti.data.input_images import find_images
from pti.data.normalization import MaskedZScore, RangeNormalization
from pti.inference.reconstructions import training_bounds
from pti.inference.survey import MIN_SIZE, Survey, survey
from pti.metrics.ssim import WINDOW


@pytest.fixture(scope="module")
def trained() -> RangeNormalization:
    normalization = RangeNormalization()
    normalization.fit([disc(seed) for seed in range(8)])
    return normalization


@pytest.fixture
def surveyed(tmp_path) -> Callable[..., Survey]:
    def write_and_survey(change: Callable[[np.ndarray], np.ndarray], **files: np.ndarray) -> Survey:
        for number in range(3):
            tif.write(tmp_path / f"changed_{number}.tif", change(disc(100 + number)))
        for name, pixels in files.items():
            tif.write(tmp_path / f"{name}.tif", pixels)
        return survey(find_images(tmp_path))

    return write_and_survey


def noisy(raw: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 3, raw.shape)
    return (raw + noise).astype(np.float32)


def test_images_like_the_trainings_get_no_warning(surveyed, trained):
    assert surveyed(lambda raw: raw).warnings(training_bounds(trained)) == []
    assert surveyed(lambda raw: raw * 1.5).warnings(training_bounds(trained)) == []


@pytest.mark.parametrize(
    "change", [lambda raw: raw * 255 / 1200, lambda raw: raw / 1200, lambda raw: raw * 20]
)
def test_another_unit_is_named_with_the_trainings_range(surveyed, trained, change):
    (warning,) = surveyed(change, good=disc(7)).warnings(training_bounds(trained))
    assert (
        "3 of 4 images, the intensities are unlike the training's: changed_0, changed_1, changed_2" in warning
    )
    low, high = trained.bounds[:2].tolist()
    assert f"between {low:.4g} and {high:.4g}" in warning
    assert "unit of the training images" in warning


def test_a_shifted_scale_is_noticed_by_its_median(surveyed, trained):
    (warning,) = surveyed(lambda raw: np.where(raw != 0, raw + 1000, 0).astype(np.float32)).warnings(
        training_bounds(trained)
    )
    assert "the intensities are unlike the training's" in warning


@pytest.mark.parametrize(
    ("change", "value"),
    [(lambda raw: raw - 1024, "-1024"), (noisy, "noise"), (lambda raw: noisy(raw) - 1024, "-102")],
)
def test_a_background_other_than_0_is_named(surveyed, trained, change, value):
    (warning,) = surveyed(change).warnings(training_bounds(trained))
    assert f"3 of 3 images, the background is {value}" in warning
    assert "Expected exactly 0" in warning


def test_empty_images_are_named(surveyed, trained):
    (warning,) = surveyed(lambda raw: raw, blank=np.zeros((20, 20), np.float32)).warnings(
        training_bounds(trained)
    )
    assert "1 of 4 images, every pixel is 0: blank" in warning


def test_a_normalization_of_each_image_by_itself_accepts_any_unit(surveyed):
    assert surveyed(lambda raw: raw / 1200).warnings(training_bounds(MaskedZScore())) == []


def test_the_tissue_range_covers_all_images_and_ignores_empty_ones(surveyed):
    low, high = surveyed(lambda raw: raw, blank=np.zeros((20, 20), np.float32)).tissue_range
    tissues = [disc(100 + number) for number in range(3)]
    assert high == pytest.approx(max(np.percentile(raw[raw != 0], 99.5) for raw in tissues))
    assert low == pytest.approx(min(np.percentile(raw[raw != 0], 0.5) for raw in tissues))


def test_an_image_smaller_than_the_window_of_ssim_is_named(surveyed):
    assert MIN_SIZE == WINDOW
    with pytest.raises(DataError, match=r"1 of 4 images can't be used:\n.*tiny\.tif: found 10 × 40 pixels"):
        surveyed(lambda raw: raw, tiny=np.ones((10, 40), np.float32))


def test_faults_of_all_images_are_in_one_message(tmp_path: Path):
    for name in "abc":
        (tmp_path / f"{name}.tif").write_text("no image")
    with pytest.raises(DataError, match="3 of 3 images can't be used"):
        survey(find_images(tmp_path))


def test_files_without_a_pixel_size_are_counted(tmp_path):
    for number in range(2):
        tif.write(tmp_path / f"stated_{number}.tif", disc(number), pixel_mm=0.15)
    assert survey(find_images(tmp_path)).pixel_size_notes(0.3, "pixel_mm") == []
    tif.write(tmp_path / "silent.tif", disc(3))
    (note,) = survey(find_images(tmp_path)).pixel_size_notes(0.3, "pixel_mm")
    assert note.startswith("1 of 3 images, no pixel size is stated, pixel_mm=0.3 mm is assumed: silent")
