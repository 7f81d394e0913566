"""Heights in words."""

from pti.drawing.height_text import height_in_words, height_text
from pti.metrics.calibration import ValidInterval


def test_only_a_valid_interval_promises_a_share():
    assert height_text(21.4, [20.3, 22.5], ValidInterval(0.9, 20.1, 22.9)) == "21.4 mm, 90 %: 20.1–22.9"
    assert height_text(21.4, [22.5, 20.3, 21.4], None) == "21.4 mm, samples 20.3–22.5"
    assert height_text(21.4, [21.4], None) == "21.4 mm"


def test_the_figures_of_an_image_in_words():
    figures = {"bone_height_mm": 21.4, "samples": [{"bone_height_mm": 21.4}, {"bone_height_mm": 22.0}]}
    assert height_in_words(figures) == "21.4 mm, samples 21.4–22.0"
    interval = {"interval_level": 0.8, "height_low_mm": 20.0, "height_high_mm": 23.04}
    assert height_in_words(figures | interval) == "21.4 mm, 80 %: 20.0–23.0"
