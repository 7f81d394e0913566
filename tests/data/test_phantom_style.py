import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from scipy import ndimage

from pti.common.conf_dir import CONF_DIR
from pti.common.errors import UsageError
from pti.data.phantom import make_phantom, shapes
from pti.data.phantom.anatomy import draw_patient
from pti.data.phantom.pairs import PhantomPair, draw_pairs
from pti.data.phantom.style import DEFAULT, Style, random_style
from pti.metrics.morphometry import bone_mask, measure

NAMED = [path.stem for path in sorted((CONF_DIR / "style").glob("*.yaml")) if path.stem != "random"]
STYLES = [*NAMED, *range(6)]


def styled(name: str | int) -> Style:
    """Return a named style, or the random one of a seed."""
    seed = [f"seed={name}"] if isinstance(name, int) else []
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        style = f"style={'random' if seed else name}"
        return instantiate(compose("make_phantom", overrides=[style, *seed]).style)


def draw(style: Style, patient: int = 0, image_size: int = 256) -> PhantomPair:
    return next(draw_pairs(5, patient, 1, image_size, 0.15, style))


@pytest.mark.parametrize("name", STYLES)
def test_bone_measures_what_truth_says_in_every_style(name):
    style = styled(name)
    for patient in range(2):
        pair = draw(style, patient)
        truth, edge = pair.truth, pair.truth["pixel_mm"]
        measured = measure(bone_mask(pair.edente), edge).as_dict()
        assert measured["height_px"] == pytest.approx(truth["height_px"], abs=1.5)
        assert measured["width_half_px"] == pytest.approx(truth["width_half_px"], abs=2)
        assert measured["width_at_5mm_mm"] == pytest.approx(
            truth["width_at_5mm_mm"], abs=2 * edge, nan_ok=True
        )
        dente = measure(bone_mask(pair.dente), edge)
        assert dente.height == pytest.approx(truth["dente_height_px"], abs=2)
        for image in (pair.dente, pair.edente):
            assert np.count_nonzero(bone_mask(image)) > 0.9 * np.count_nonzero(image)


@pytest.mark.parametrize("name", STYLES)
@pytest.mark.parametrize("image_size", [64, 128])
def test_tissue_is_positive_in_one_piece_and_off_the_frame_in_every_style(name, image_size):
    pair = draw(styled(name), image_size=image_size)
    for image in (pair.dente, pair.edente):
        assert image.min() == 0
        labels = np.empty(image.shape, np.int32)
        ndimage.label(image, output=labels)
        assert labels.max() == 1
        assert max(edge.max() for edge in (image[0], image[-1], image[:, 0], image[:, -1])) == 0


def test_the_style_default_is_that_of_the_phantom():
    assert styled("default") == DEFAULT


def test_a_random_style_is_a_function_of_its_seed():
    assert random_style(3) == random_style(3)
    drawn = [random_style(seed) for seed in range(40)]
    for field in fields(Style):
        values = {getattr(style, field.name) for style in drawn}
        assert len(values) > 15, field.name
    assert {style.metal == 0 for style in drawn} == {style.two_roots == 0 for style in drawn} == {True, False}
    fixed = random_style(3, metal=0.0, noise_hu=50.0)
    assert (fixed.metal, fixed.noise_hu, fixed.grain) == (0, 50, random_style(3).grain)


@pytest.mark.parametrize("setting", [{"noise_hu": 0}, {"metal": 1.5}, {"tilt": math.nan}])
def test_values_out_of_range_are_named(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        Style(**setting)


def test_raw_values_are_scaled_hounsfield_units():
    one, other = draw(Style(offset_hu=3000)), draw(Style(offset_hu=3000, scale=1e-3))
    np.testing.assert_allclose(other.edente, 1e-3 * one.edente, rtol=1e-5)
    core = ndimage.binary_erosion(one.edente > 0, iterations=3)
    moved = (one.edente / one.truth["gain"] - draw(DEFAULT).edente / draw(DEFAULT).truth["gain"])[core]
    np.testing.assert_allclose(moved, 1000, atol=0.01)


def test_metal_crowns_saturate():
    plain, crowned = draw(DEFAULT), draw(Style(metal=1.0, saturation_hu=5000))
    assert 6900 < crowned.dente.max() / crowned.truth["gain"] < 7100
    np.testing.assert_array_equal(plain.edente, crowned.edente)
    changed = np.flatnonzero((plain.dente != crowned.dente).any(axis=1))
    assert 30 < np.ptp(changed) < 60
    drawn = [draw(Style(metal=0.5), patient, 64).dente.max() > 10_000 for patient in range(12)]
    assert 2 < sum(drawn) < 10


def test_two_roots_have_bone_between_them():
    for patient in range(3):
        plain, split = (draw(style, patient) for style in (DEFAULT, Style(two_roots=1.0)))
        darker = plain.dente - split.dente > 300
        assert 100 < np.count_nonzero(darker) < 1500
        section = draw_patient(5, patient, 1)[0]
        apex = measure(bone_mask(plain.edente), 0.15).base_row - (
            (shapes.neck(section)[1] - section["root_length"]) / 0.15
        )
        assert np.flatnonzero(darker.any(axis=1)).max() < apex + 10


def test_tilt_and_place_move_the_jaw_and_change_no_length():
    upright, tilted = draw(DEFAULT), draw(Style(tilt=10.0, place_x=0.5))
    for key in ("height_px", "width_half_px", "width_at_10mm_mm"):
        assert tilted.truth[key] == upright.truth[key]
    before, after = (measure(bone_mask(pair.edente), 0.15) for pair in (upright, tilted))
    assert after.height == before.height
    assert after.crest_column > before.crest_column + 10


def test_a_wider_field_and_a_smaller_jaw_change_the_pixel():
    near, wide, small = draw(DEFAULT), draw(Style(field=2.0)), draw(Style(jaw_size=0.5))
    assert wide.truth["pixel_mm"] == 2 * near.truth["pixel_mm"]
    assert wide.truth["height_mm"] == near.truth["height_mm"]
    assert np.count_nonzero(wide.edente) == pytest.approx(np.count_nonzero(near.edente) / 4, rel=0.05)
    np.testing.assert_array_equal(small.edente, near.edente)
    for key in ("pixel_mm", "height_mm", "width_half_mm", "loss_mm", "height_mean_mm", "height_std_mm"):
        assert small.truth[key] == pytest.approx(near.truth[key] / 2)
    assert small.truth["height_px"] == pytest.approx(near.truth["height_px"])
    assert small.truth["width_at_5mm_mm"] == pytest.approx(near.truth["width_at_10mm_mm"] / 2)


def test_thickness_of_the_cortex():
    def compact(style: Style) -> int:
        pair = draw(style)
        return int(np.count_nonzero(pair.edente > 3150 * pair.truth["gain"]))

    assert compact(Style(cortex=0.5)) < 0.75 * compact(DEFAULT) < 0.75 * compact(Style(cortex=1.5))


def test_phantom_json_names_a_style_other_than_the_default(tmp_path: Path):
    small: dict[str, Any] = {"patients": 1, "image_size": 64}
    make_phantom(tmp_path / "a", **small, style=DEFAULT)
    assert "style" not in json.loads((tmp_path / "a" / "phantom.json").read_text())["settings"]
    assert make_phantom(tmp_path / "a", **small) is False
    style = Style(grain=1.5, field=1.5)
    assert make_phantom(tmp_path / "b", **small, style=style) is True
    assert make_phantom(tmp_path / "b", **small, style=style) is False
    with pytest.raises(UsageError, match=r"another phantom \(style.grain=1.5\)"):
        make_phantom(tmp_path / "b", **small, style=Style(field=1.5))
    with pytest.raises(UsageError, match=r"style\.field=1.5"):
        make_phantom(tmp_path / "c", **small, style=style, pixel_mm=0.25)
