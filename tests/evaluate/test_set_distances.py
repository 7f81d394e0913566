"""The image of each slice that represents a method in set comparisons."""

import numpy as np

from pti.data import tif
from pti.evaluate.image_baselines import unchanged
from pti.evaluate.scores import Case, mean_image, measure_cases
from pti.evaluate.set_distances import images_of
from pti.inference.features import Source


def image(value: float) -> np.ndarray:
    raw = np.zeros((16, 16), np.float32)
    raw[4:12, 4:12] = value
    return raw


def pixels(source: Source) -> np.ndarray:
    return source() if callable(source) else tif.read(source).pixels


def test_the_first_sample_the_mean_and_what_a_baseline_makes(tmp_path):
    values = {"true": 900, "dente": 400, "a_s00": 500, "a_s01": 700, "b": 800}
    files = {name: tmp_path / f"{name}.tif" for name in values}
    for name, value in values.items():
        tif.write(files[name], image(value))
    predictions = {"a": [files["a_s00"], files["a_s01"]], "b": [files["b"]]}
    case = Case("1", "somebody", files["true"], files["dente"], predictions)
    baselines = {"unchanged": unchanged, "named": lambda condition, patient: condition + len(patient)}
    measurements = measure_cases([case], 1000, 0.15, baselines)
    expected = {"a": 500, mean_image("a"): 600, "b": 800, "unchanged": 400, "named": 408}
    assert measurements.methods.keys() == expected.keys()
    for method, value in expected.items():
        (source,) = images_of(measurements, method)
        assert pixels(source)[8, 8] == value
