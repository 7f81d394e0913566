"""What training says about an autoencoder at its end."""

import pytest

from pti.train.verdict import LIMITS, verdict

GOOD = {"texture_amplitude": 0.97, "texture_correlation": 0.9, "bone_dice": 0.99, "bone_height_error_mm": 0.1}


def test_a_good_autoencoder_is_good_enough_by_all_metrics():
    text = verdict(GOOD)
    assert text.startswith("Good enough for stage 2: ")
    assert all(name in text for name in LIMITS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("texture_amplitude", 0.5),
        ("texture_correlation", 0.79),
        ("bone_dice", 0.9),
        ("bone_height_error_mm", 0.5),
    ],
)
def test_the_metric_that_fails_is_the_one_that_is_named(name, value):
    text = verdict(GOOD | {name: value})
    assert text.startswith("Not good enough for stage 2")
    assert [other for other in LIMITS if other in text] == [name]
    assert f"{name} {value:.3g}" in text


def test_metrics_that_were_not_measured_do_not_count():
    assert "bone" not in verdict({"texture_amplitude": 0.97, "texture_correlation": 0.9})
    assert verdict({"psnr": 30.0}) == ""
