"""The command that an evaluation of folders names at its end: the same one with what it lacks."""

import pytest
from omegaconf import OmegaConf

from pti.evaluate.__main__ import complete_comparison

KEYS = ("condition_dir", "training_dir", "pixel_mm", "data_range", "num_samples")


@pytest.mark.parametrize(
    ("predictions", "given", "expected"),
    [
        ("a b", {}, "prediction_dir='a b' target_dir=t condition_dir=FOLDER"),
        ("a", {"condition_dir": "c"}, "'prediction_dir=[a,FOLDER]' target_dir=t condition_dir=c"),
        (
            ["a", "b"],
            {"condition_dir": "c", "num_samples": 3},
            "'prediction_dir=[a,b]' target_dir=t condition_dir=c training_dir=FOLDER num_samples=3",
        ),
        (["a", "b"], {"condition_dir": "c", "training_dir": "d"}, None),
    ],
)
def test_what_is_missing_is_added(predictions, given, expected):
    config = {"ckpt": None, "prediction_dir": predictions, "target_dir": "t", **dict.fromkeys(KEYS), **given}
    command = complete_comparison(OmegaConf.create(config))
    assert command == (expected and f"python -m pti.evaluate {expected}")
