"""The PNG encoder against a decoder, and how images are displayed."""

import io

import matplotlib.image
import numpy as np
import pytest

from pti.drawing.png import data_uri, display, encode_png, overlay


@pytest.mark.parametrize("shape", [(5, 7), (4, 9, 3)])
def test_a_png_holds_what_was_encoded(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    decoded = matplotlib.image.imread(io.BytesIO(encode_png(image)), format="png")
    np.testing.assert_array_equal(np.round(decoded * 255).astype(np.uint8), image)
    assert data_uri(image).startswith("data:image/png;base64,")


def test_display_shows_dark_tissue_apart_from_background():
    pixels = np.zeros((100, 60), np.float32)
    pixels[20:60, 20:40] = np.linspace(-500, 3000, 20)
    shown = display(pixels, 50)
    assert shown.shape == (50, 30)
    assert shown[0, 0] == 0
    assert shown[10:30, 10:20].min() >= 0.1 - 1e-6
    assert shown.max() == pytest.approx(1)
    assert display(np.zeros((8, 8), np.float32), 8).max() == 0
    assert overlay(shown, shown).shape == (50, 30, 3)
