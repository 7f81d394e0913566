import math

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from helpers.latent_study_setup import make_latents
from pti.latent_study import distances


def by_name(latents):
    return {(row.measure, row.of): row.value for row in distances.group_measures(latents)}


def test_distances_equal_the_constructed_ones():
    latents = make_latents(patients=40, apart=2.0)
    measures = by_name(latents)
    # Half of the values differ by 2: the root of the mean of 2² and 0.
    assert measures["between means", "dente – edente"] == pytest.approx(math.sqrt(2), rel=0.01)
    assert measures["pair distance", "dente – edente"] == pytest.approx(math.sqrt(2), rel=0.01)
    assert measures["cross distance", "dente – edente"] > measures["pair distance", "dente – edente"]
    assert measures["patient's share", "dente"] > 0.98
    assert measures["silhouette", "group"] > 0.1


def test_patients_farthest_apart_come_first():
    latents = make_latents()
    moved = (latents.patient == "003") & (latents.group == "edente")
    latents.mean[moved] += 5
    rows = distances.patient_distances(latents)
    assert [row["pairs"] for row in rows] == [3] * 8
    assert rows[0]["patient"] == "003"
    values = [float(row["pair_distance"]) for row in rows]
    assert values == sorted(values, reverse=True)


def test_the_patients_share_of_noise_is_zero():
    random = np.random.default_rng(0)
    noise, patients = random.normal(size=(300, 20)), np.repeat(np.arange(30), 10)
    assert distances.patient_share(noise, patients) == pytest.approx(0, abs=0.02)
    assert math.isnan(distances.patient_share(noise, np.arange(300)))
    assert math.isnan(distances.patient_share(noise, np.zeros(300)))


def test_silhouette_and_squared_distances_agree_with_scikit_learn():
    latents = make_latents()
    squared = distances.squared_distances(latents.flat)
    expected = silhouette_score(latents.flat.astype(np.float64), latents.patient)
    assert distances.silhouette(squared, latents.patient) == pytest.approx(expected, abs=1e-6)
    assert squared[0, 7] == pytest.approx(distances.distance(latents.mean[0], latents.mean[7]) ** 2)
    assert math.isnan(distances.silhouette(squared, np.zeros(len(squared))))
