import numpy as np
import pytest
from matplotlib.image import imread

from pti.drawing.contact_sheet import contact_sheet, display_window


def test_window_ignores_background_and_outliers():
    raw = np.zeros((64, 64))
    raw[16:48, 16:48] = np.linspace(2000, 3000, 1024).reshape(32, 32)
    raw[20, 20] = 1e6
    black, white = display_window([raw])
    assert 1700 < black < 2050
    assert 2950 < white < 3050


@pytest.mark.parametrize("raw", [np.zeros((8, 8)), np.full((8, 8), 5.0)])
def test_window_is_never_empty(raw):
    black, white = display_window([raw])
    assert black < white


def test_sheet_shows_every_pair(tmp_path):
    raw = np.zeros((64, 64), np.float32)
    raw[16:48, 24:40] = np.random.default_rng(0).uniform(2000, 3000, (32, 16))
    path = tmp_path / "new" / "sheet.png"
    contact_sheet(path, [("one", raw, raw), ("two", raw, 0 * raw)], pixel_mm=0.15)
    picture = imread(path)[..., :3].mean(-1)
    above, below = np.array_split(picture, 2, axis=0)
    bright = [half.mean() for row in (above, below) for half in np.array_split(row, 2, axis=1)]
    assert min(bright[:3]) > 0.2
    assert bright[3] < 0.05
