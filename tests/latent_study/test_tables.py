import csv

import numpy as np
import pytest

from helpers.latent_study_setup import make_latents
from pti.latent_study.projection import principal_components
from pti.latent_study.tables import key_metrics, tabulate, write_tables


def test_an_unused_channel_is_named():
    latents = make_latents()
    latents.mean[:, 1] = 0.01 * np.random.default_rng(0).normal(size=latents.mean[:, 1].shape)
    tables = tabulate(latents, principal_components(latents.flat))
    assert [row.used for row in tables.channels] == [True, False]
    metrics = key_metrics(tables)
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
