"""The changed region of phantoms whose noise-free anatomy is known, and metrics after known changes."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from pti.data.phantom.pairs import draw_pairs
from pti.data.phantom.style import DEFAULT, Style, random_style
from pti.metrics.changed_region import GHOST, REGION_METRICS, RegionReference, changed_region

SIZE = 128


def pair(patient: int, style: Style = DEFAULT) -> tuple[np.ndarray, np.ndarray]:
    drawn = next(draw_pairs(3, patient, 1, SIZE, 0.15, style))
    return drawn.dente, drawn.edente


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray, np.ndarray]:
    return pair(0)


@pytest.fixture(scope="module")
def reference(images) -> RegionReference:
    return RegionReference(*images, data_range=3000)


def compare(reference: RegionReference, *predicted: np.ndarray) -> list[dict[str, float]]:
    metrics = reference.compare(np.stack(predicted))
    return [{name: values[index] for name, values in metrics.items()} for index in range(len(predicted))]


@pytest.mark.parametrize("style", [DEFAULT, *map(random_style, range(4))])
def test_the_region_is_where_the_anatomy_differs(style):
    for patient in range(3):
        dente, edente = pair(patient, style)
        change, tissue = np.abs(np.subtract(*pair(patient, replace(style, noise_hu=4.0)))), edente != 0
        region, contrast = changed_region(dente, edente) & tissue, edente[tissue].std()
        assert region[(change > 0.25 * contrast) & tissue].mean() > 0.95
        assert ndimage.binary_dilation(change > 0.1 * contrast, iterations=4)[region].mean() > 0.95
        assert 0.1 < region.sum() / tissue.sum() < 0.6


@pytest.mark.parametrize("factor", [1, 2])
def test_the_region_depends_on_neither_unit_nor_size(images, factor):
    region = changed_region(*images)
    scaled = [np.kron(image * 0.01, np.ones((factor, factor), np.float32)) for image in images]
    enlarged = np.kron(region, np.ones((factor, factor), bool))
    assert (changed_region(*scaled) == enlarged).mean() > 0.985


def test_equal_images_have_no_changed_region(images):
    assert not changed_region(images[1], images[1]).any()
    assert not changed_region(*np.zeros((2, SIZE, SIZE), np.float32)).any()


def test_everything_changes_between_contrasts(images):
    inverted = np.where(images[1] != 0, 6000 - images[1], 0)
    reference = RegionReference(inverted, images[1], 3000)
    assert reference.changed_share > 0.9
    (values,) = compare(reference, inverted)
    assert np.isnan(values["unchanged_texture_amplitude"])
    assert values["changed_texture_correlation"] < -0.9


def test_the_true_image_is_exact_and_a_copy_is_a_ghost(images, reference):
    dente, edente = images
    true, copy = compare(reference, edente, dente)
    assert set(true) == set(REGION_METRICS)
    expected = {name: float(name.endswith(("amplitude", "correlation", "ssim"))) for name in REGION_METRICS}
    assert true == pytest.approx(expected, abs=1e-5)
    assert copy[GHOST] > 0.5
    assert copy["changed_mae"] > 200
    assert copy["changed_ssim"] < 0.6
    assert copy["unchanged_texture_correlation"] > 0.98
    assert copy["unchanged_mae"] < 20


def test_a_faint_outline_of_the_tooth_raises_the_ghost_index(images, reference):
    dente, edente = images
    detail = dente - ndimage.gaussian_filter(dente, 1.5)
    shown = [edente + share * detail * reference.interior["changed"] for share in (0.0, 0.3, 0.6)]
    ghosts = [values[GHOST] for values in compare(reference, *shown)]
    assert ghosts[0] == pytest.approx(0, abs=1e-5)
    assert ghosts[0] + 0.05 < ghosts[1] < ghosts[2] - 0.05


def test_smoothing_loses_amplitude_only_where_it_is_done(images, reference):
    edente = images[1]
    changed = reference.masks["changed"]
    smooth = np.where(changed, ndimage.gaussian_filter(edente, 1.5), edente)
    (values,) = compare(reference, smooth)
    assert values["changed_texture_amplitude"] < 0.6
    assert values["unchanged_texture_amplitude"] == pytest.approx(1, abs=0.05)
    assert values["unchanged_texture_correlation"] > 0.98
    assert values["unchanged_mae"] == 0


def test_other_texture_has_amplitude_without_correlation(images, reference):
    edente, tissue = images[1], images[1] != 0
    noise = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(edente.shape), 0.8)
    (values,) = compare(reference, np.where(tissue, 2500 + 800 * noise, 0).astype(np.float32))
    assert values["changed_texture_amplitude"] > 0.5
    for name in ("changed_texture_correlation", "unchanged_texture_correlation"):
        assert abs(values[name]) < 0.15


def test_a_prediction_without_tissue_has_no_texture(images, reference):
    (values,) = compare(reference, np.zeros_like(images[1]))
    assert values["changed_texture_amplitude"] == values["changed_texture_correlation"] == values[GHOST] == 0
