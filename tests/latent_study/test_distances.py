import csv
import math

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from helpers.latent_study_setup import make_latents
from pti.latent_study import distances
from pti.latent_study.probes import channels, probe_attributes
from pti.latent_study.projection import principal_components
from pti.latent_study.tables import key_metrics, tabulate, write_tables


def by_name(latents):
    return {(row.measure, row.of): row.value for row in distances.group_measures(latents)}


def test_distances_are_those_that_were_made():
    latents = make_latents(patients=40, apart=2.0)
    found = by_name(latents)
    # Half of the numbers differ by 2: root of the mean of 2² and 0.
    assert found["between means", "dente – edente"] == pytest.approx(math.sqrt(2), rel=0.01)
    assert found["pair distance", "dente – edente"] == pytest.approx(math.sqrt(2), rel=0.01)
    assert found["cross distance", "dente – edente"] > found["pair distance", "dente – edente"]
    assert found["patient's share", "dente"] > 0.98
    assert found["silhouette", "group"] > 0.1


def test_patients_farthest_apart_come_first():
    latents = make_latents()
    moved = (latents.patient == "003") & (latents.group == "edente")
    latents.mean[moved] += 5
    rows = distances.patient_distances(latents)
    assert [row["pairs"] for row in rows] == [3] * 8
    assert rows[0]["patient"] == "003"
    values = [float(row["pair_distance"]) for row in rows]
    assert values == sorted(values, reverse=True)


def test_the_patients_share_of_noise_is_none():
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


def test_a_probe_finds_the_bone_in_patients_it_has_not_seen():
    latents = make_latents(patients=60, slices=3)
    found = {
        (row.group, row.attribute): row
        for row in probe_attributes(latents, principal_components(latents.flat))
    }
    assert found["dente", "height_mm"].r2 > 0.95
    assert abs(found["dente", "height_mm"].rank_correlation) > 0.5
    assert found["edente", "density"].r2 < 0.2


def test_what_slices_of_a_patient_share_does_not_help_a_probe():
    """An attribute that is random for each patient: known from the neighbouring slice, not from the bone."""
    latents = make_latents(patients=30, slices=5)
    random = np.random.default_rng(1).normal(size=30)
    latents.attributes["area_mm2"] = random[latents.patient.astype(int)]
    found = {
        (row.group, row.attribute): row
        for row in probe_attributes(latents, principal_components(latents.flat))
    }
    assert found["dente", "area_mm2"].r2 < 0.2


def test_an_unused_channel_is_named():
    latents = make_latents()
    latents.mean[:, 1] = 0.01 * np.random.default_rng(0).normal(size=latents.mean[:, 1].shape)
    assert [row.used for row in channels(latents)] == [True, False]
    metrics = key_metrics(tabulate(latents, principal_components(latents.flat)))
    assert metrics["unused channels"] == "1"
    assert metrics["KL, nats an image"] == pytest.approx(6)


def test_one_group_and_unknown_patients_leave_gaps_not_errors(tmp_path):
    latents = make_latents()
    latents.group[:], latents.patient[:] = "images", ""
    tables = tabulate(latents, principal_components(latents.flat))
    paths = write_tables(tables, tmp_path)
    assert not tables.patients
    assert not tables.probes
    with open(paths["distances"], newline="") as file:
        rows = {(row["measure"], row["of"]): row["value"] for row in csv.DictReader(file)}
    assert rows["silhouette", "group"] == ""
    assert float(rows["spread within", "images"]) > 0
    assert not (tmp_path / "patients_by_distance.csv").exists()
