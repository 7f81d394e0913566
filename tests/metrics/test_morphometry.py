import math

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from pti.metrics.morphometry import bone_mask, dice, hausdorff95, iou, measure, width_ends


def rectangle(top=20, bottom=100, left=30, right=70, shape=(128, 128)):
    mask = np.zeros(shape, bool)
    mask[top:bottom, left:right] = True
    return mask


def disc(radius, centre=(64, 64), shape=(128, 128)):
    y, x = np.indices(shape)
    return np.hypot(y - centre[0], x - centre[1]) <= radius


def test_rectangle_is_measured_exactly():
    size = measure(rectangle(), pixel_mm=0.5)
    assert size.height == 80
    assert size.width_quarter == size.width_half == size.width_three_quarters == 40
    assert size.width_at_5mm == size.width_at_22mm == 40
    assert size.area == 3200
    assert (size.base_row, size.crest_row, size.crest_column) == (99, 20, 49.5)
    columns = size.as_dict()
    assert columns["height_mm"] == 40
    assert columns["width_half_mm"] == 20
    assert columns["area_mm2"] == 800
    assert columns["pixel_mm"] == 0.5


def test_triangle_has_the_width_of_its_height():
    mask = np.zeros((200, 200), bool)
    for row in range(100):  # 2 pixels in the first row, 200 in the last
        mask[50 + row, 99 - row : 101 + row] = True
    size = measure(mask, pixel_mm=1.0)
    assert size.height == 100
    assert size.width_quarter == pytest.approx(151)
    assert size.width_half == pytest.approx(101)
    assert size.width_three_quarters == pytest.approx(51)
    assert size.width_at_10mm == pytest.approx(181)


def test_disc_is_as_high_as_wide():
    size = measure(disc(40), pixel_mm=1)
    assert size.height == size.width_half == 81
    assert size.area == pytest.approx(math.pi * 40**2, rel=0.01)
    assert size.width_quarter == pytest.approx(2 * math.sqrt(40.5**2 - 20.25**2), rel=0.02)


def test_widths_above_the_crest_are_nan():
    size = measure(rectangle(top=20, bottom=60), pixel_mm=0.5)  # 20 mm
    assert size.width_at_18mm == 40
    assert math.isnan(size.width_at_22mm)


def test_holes_count_for_the_area_and_not_for_the_width():
    mask = rectangle()
    mask[50:70, 40:60] = False
    size = measure(mask, pixel_mm=1)
    assert size.width_half == 40
    assert size.area == 3200 - 400


def test_empty_mask_measures_nan():
    size = measure(np.zeros((16, 16), bool), pixel_mm=0.15)
    assert all(math.isnan(value) for name, value in vars(size).items() if name != "pixel_mm")
    assert set(size.as_dict()) == set(measure(rectangle(), 0.15).as_dict())


def test_measures_move_with_the_bone():
    still, moved = measure(rectangle(), 0.15), measure(np.roll(rectangle(), (5, -7), (0, 1)), 0.15)
    assert moved.crest_row == still.crest_row + 5
    assert moved.crest_column == still.crest_column - 7
    assert moved.height == still.height
    assert moved.width_quarter == still.width_quarter


def test_mask_keeps_the_largest_part_and_its_holes():
    raw = 100 * rectangle().astype(np.float32)
    raw[5:10, 5:10] = 120
    raw[60, 50] = 0
    mask = bone_mask(raw)
    expected = rectangle()
    expected[60, 50] = False
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("core", [10, 1e-3, -100])
def test_bone_is_what_the_outline_encloses_however_dark(core):
    raw = 100 * rectangle().astype(np.float32)
    raw[30:90, 40:60] = core
    np.testing.assert_array_equal(bone_mask(raw), rectangle())
    raw[30:90, 40:60] = 0
    assert np.count_nonzero(bone_mask(raw)) == 80 * 40 - 60 * 20


def test_dark_tissue_outside_the_outline_is_no_bone():
    raw = 100 * rectangle().astype(np.float32)
    raw[10:20, 30:70] = 20
    np.testing.assert_array_equal(bone_mask(raw), rectangle())


def test_a_tooth_behind_its_dark_ligament_belongs_to_the_bone():
    raw = 100 * rectangle().astype(np.float32)
    raw[40:43] *= 0.1
    assert measure(bone_mask(raw), 1).height == 80
    raw[40:43] = 0
    assert measure(bone_mask(raw), 1).height == 57
    raw[40:43] = 10  # from edge to edge, as residue in the background
    assert measure(bone_mask(raw), 1).height == 57


@pytest.mark.parametrize("brightness", [3, 30, 3000])
def test_a_metal_crown_hides_no_bone(brightness):
    raw = 100 * rectangle().astype(np.float32)
    raw[20:40] *= brightness
    np.testing.assert_array_equal(bone_mask(raw), rectangle())


def test_diagonal_neighbours_are_apart():
    raw = np.zeros((32, 32), np.float32)
    raw[4:20, 4:20] = raw[20, 20] = 1
    assert not bone_mask(raw)[20, 20]


def test_threshold_lies_halfway_to_the_typical_tissue():
    raw = 100 * rectangle().astype(np.float32)
    raw[19, 30:70], raw[18, 30:70] = 51, 49
    assert measure(bone_mask(raw), 1).height == 81


@pytest.mark.parametrize("factor", [1e-3, 1, 4000])
def test_mask_is_independent_of_the_unit(factor):
    rng = np.random.default_rng(0)
    raw = (disc(40) * rng.uniform(0.3, 2, (128, 128))).astype(np.float32)
    np.testing.assert_array_equal(bone_mask(np.float32(factor) * raw), bone_mask(raw))


def test_mask_moves_with_padding_and_transposition():
    rng = np.random.default_rng(0)
    raw = (disc(40) * rng.uniform(-0.5, 2, (128, 128))).astype(np.float32)
    raw[60:64] *= 0.01
    mask = bone_mask(raw)
    np.testing.assert_array_equal(bone_mask(np.pad(raw, ((3, 9), (20, 0)))), np.pad(mask, ((3, 9), (20, 0))))
    np.testing.assert_array_equal(bone_mask(raw.T), mask.T)
    np.testing.assert_array_equal(bone_mask(raw[::-1]), mask[::-1])


def test_faint_residue_in_the_background_is_not_tissue():
    rng = np.random.default_rng(0)
    raw = 100 * rectangle() + rng.uniform(0, 3, (128, 128))
    np.testing.assert_array_equal(bone_mask(raw), rectangle())


def test_image_without_tissue_has_an_empty_mask():
    assert not bone_mask(np.zeros((16, 16), np.float32)).any()
    assert not bone_mask(np.full((16, 16), -1, np.float32)).any()


def test_overlap_of_known_shapes():
    a, b = rectangle(right=70), rectangle(right=50)
    assert dice(a, a) == iou(a, a) == 1
    assert dice(a, b) == pytest.approx(2 * 20 / 60)
    assert iou(a, b) == pytest.approx(0.5)
    empty = np.zeros_like(a)
    assert dice(a, empty) == iou(a, empty) == 0
    assert math.isnan(dice(empty, empty))
    assert math.isnan(iou(empty, empty))


def test_hausdorff_of_known_shapes():
    assert hausdorff95(disc(30), disc(30)) == 0
    assert hausdorff95(disc(30), disc(36)) == pytest.approx(6, abs=0.5)
    assert hausdorff95(disc(30), disc(36), pixel_mm=0.15) == pytest.approx(0.9, abs=0.08)
    assert hausdorff95(rectangle(), np.roll(rectangle(), 4, axis=1)) == 4
    assert math.isnan(hausdorff95(disc(30), np.zeros((128, 128), bool)))


def test_hausdorff_forgives_the_outermost_twentieth():
    spike = disc(40)
    spike[10:24, 64] = True
    assert hausdorff95(disc(40), spike) < 3


def distances(mask: np.ndarray) -> np.ndarray:
    return np.asarray(distance_transform_edt(mask))


def test_hausdorff_agrees_with_distance_maps():
    rng = np.random.default_rng(1)
    for _ in range(4):
        a, b = disc(rng.uniform(15, 40), rng.uniform(45, 80, 2)), rectangle(bottom=int(rng.integers(60, 120)))
        borders = [mask & (distances(np.pad(mask, 1))[1:-1, 1:-1] <= 1) for mask in (a, b)]
        there, back = (distances(~border) for border in borders)
        expected = max(np.percentile(back[borders[0]], 95), np.percentile(there[borders[1]], 95))
        assert hausdorff95(a, b) == pytest.approx(expected)
        assert hausdorff95(a, b) == hausdorff95(b, a)


def test_the_ends_of_a_width_are_on_the_outline_as_far_apart_as_it_is_wide():
    mask = disc(40)
    size, ends = measure(mask, 0.5), width_ends(mask, 0.5)
    assert {"width_half", "width_at_22mm"} <= set(ends)
    for name, (row, left, right) in ends.items():
        assert right - left == pytest.approx(getattr(size, name))
        assert (left + right) / 2 == pytest.approx(64.5)
        assert abs(np.hypot(row - 64.5, right - 64.5) - 40.5) < 1
    missing = {name for name in vars(size) if name.startswith("width")} - set(ends)
    assert all(math.isnan(getattr(measure(mask, 1.5), name)) for name in missing)


def test_no_bone_has_no_widths_to_draw():
    assert width_ends(np.zeros((8, 8), bool), 0.15) == {}
