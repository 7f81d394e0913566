"""Thumbnails and overlays of the report."""

import numpy as np
import pytest

from pti.check.pictures import overlay, thumbnail


def test_thumbnail_shows_dark_tissue_apart_from_background():
    raw = np.zeros((100, 60), np.float32)
    raw[20:60, 20:40] = np.linspace(-500, 3000, 20)
    small = thumbnail(raw, 50)
    assert small.shape == (50, 30)
    assert small[0, 0] == 0
    assert small[10:30, 10:20].min() >= 0.1 - 1e-6
    assert small.max() == pytest.approx(1)
    assert thumbnail(np.zeros((8, 8), np.float32), 8).max() == 0


def test_overlay_is_grey_where_both_images_agree_and_coloured_elsewhere():
    first, second = np.full((4, 6), 0.4), np.full((4, 6), 0.4)
    second[:, 3:] = 0.8
    picture = overlay(first, second)
    assert picture.shape == (4, 6, 3)
    assert picture.dtype == np.uint8
    assert (picture[:, :3] == 102).all()
    assert (picture[:, 3:, 2] > picture[:, 3:, 0]).all()
