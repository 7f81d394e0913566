"""Heights as text."""

from pti.drawing.height_text import height_text


def test_only_a_calibrated_interval_has_a_level():
    assert height_text(21.4, [20.3, 22.5], (0.9, 20.1, 22.9)) == "21.4 mm, 90 %: 20.1–22.9"
    assert height_text(21.4, [22.5, 20.3, 21.4]) == "21.4 mm, samples 20.3–22.5"
    assert height_text(21.4, [21.4]) == "21.4 mm"
