import numpy as np

from helpers.latent_study_setup import make_latents
from pti.latent_study.probes import probe_attributes
from pti.latent_study.projection import principal_components


def test_a_probe_finds_the_bone_in_patients_it_has_not_seen():
    latents = make_latents(patients=60, slices=3)
    probes = {
        (row.group, row.attribute): row
        for row in probe_attributes(latents, principal_components(latents.flat))
    }
    assert probes["dente", "height_mm"].r2 > 0.95
    assert abs(probes["dente", "height_mm"].rank_correlation) > 0.5
    assert probes["edente", "density"].r2 < 0.2


def test_a_probe_does_not_profit_from_other_slices_of_a_patient():
    """A random attribute of each patient follows from a neighbouring slice, not from the bone."""
    latents = make_latents(patients=30, slices=5)
    random = np.random.default_rng(1).normal(size=30)
    latents.attributes["area_mm2"] = random[latents.patient.astype(int)]
    probes = {
        (row.group, row.attribute): row
        for row in probe_attributes(latents, principal_components(latents.flat))
    }
    assert probes["dente", "area_mm2"].r2 < 0.2
