import numpy as np
import pytest
from PIL import Image

from pti.drawing.figures import Comparison, draw_comparison, draw_curves


@pytest.mark.parametrize(("offset", "scale"), [(0.0, 1e-4), (30_000.0, 10.0), (-900.0, 100.0)])
def test_a_comparison_is_never_black_and_keeps_its_scale(offset, scale):
    random = np.random.default_rng(0)
    raw = np.zeros((3, 32, 32))
    raw[:, 8:24, 8:24] = offset + scale * random.uniform(0.5, 1, (3, 16, 16))
    other = np.where(raw != 0, raw + 0.1 * scale * random.standard_normal(raw.shape), 0)
    comparison = Comparison(
        {"original": raw, "reconstruction": other}, ["a", "b", "c"], ("original", "reconstruction")
    )
    picture = np.asarray(draw_comparison(comparison), float)
    panels = picture[: picture.shape[0] // 3].mean(-1)
    thirds = np.array_split(panels[40:-60], 3, axis=1)
    assert all(third.max() > 100 for third in thirds)
    assert thirds[0].std() > 20
    without = Comparison(comparison.columns, comparison.captions)
    assert draw_comparison(without).width < picture.shape[1]


def test_equal_images_differ_nowhere():
    raw = np.pad(np.ones((1, 16, 16)), ((0, 0), (8, 8), (8, 8)))
    picture = draw_comparison(Comparison({"a": raw, "b": raw}, ["x"], ("a", "b")))
    middle = picture.getpixel((picture.width * 5 // 6, picture.height // 2))
    assert isinstance(middle, tuple)
    assert max(middle) < 40


def test_curves(tmp_path):
    rows = [
        {"epoch": 0.0, "train/l1": 2.0},
        {"epoch": 1.0, "train/l1": 1.0, "val/l1": 1.5, "val/z_0": 0, "val/z_1": 1},
    ]
    draw_curves(rows, tmp_path / "images" / "curves.png")
    with Image.open(tmp_path / "images" / "curves.png") as picture:
        assert min(picture.size) > 200
    draw_curves([{"epoch": 0.0}], tmp_path / "nothing.png")
    assert not (tmp_path / "nothing.png").exists()


def test_a_constant_curve_hides_rounding(tmp_path):
    exact = [{"epoch": 0.0, "train/lr": 1e-4}, {"epoch": 1.0, "train/lr": 1e-4}]
    rounded = [{"epoch": 0.0, "train/lr": 1e-4}, {"epoch": 1.0, "train/lr": 9.9999995e-5}]
    draw_curves(exact, tmp_path / "exact.png")
    draw_curves(rounded, tmp_path / "rounded.png")
    pictures = [
        np.array(Image.open(tmp_path / name).convert("L"), float) for name in ("exact.png", "rounded.png")
    ]
    assert np.abs(pictures[0] - pictures[1]).max() < 8
