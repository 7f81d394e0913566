import numpy as np
import pytest
import torch

from helpers.latent_study_setup import make_latents
from pti.common.errors import DataError
from pti.latent_study.distances import squared_distances
from pti.latent_study.options import METHODS
from pti.latent_study.projection import (
    MIN_IMAGES,
    ProjectionSettings,
    adapt_to_count,
    principal_components,
    project,
)

# umap compiles on first use, which takes most of a minute
EACH = [pytest.param(name, marks=[pytest.mark.slow] if name == "umap" else []) for name in METHODS]


@pytest.mark.parametrize("method", EACH)
def test_groups_and_patients_stay_together_and_the_seed_decides(method):
    latents = make_latents(apart=4.0)
    components = principal_components(latents.flat)
    settings, _ = adapt_to_count(ProjectionSettings(n_neighbors=5, perplexity=5), len(latents))
    threads = torch.get_num_threads()
    projection = project(components, method, settings)
    assert torch.get_num_threads() == threads  # torch rounds differently with another number
    assert projection.points.shape == (len(latents), 2)
    distances = squared_distances(projection.points) + 1e9 * np.eye(len(latents))
    assert np.mean(latents.group[distances.argmin(1)] == latents.group) > 0.9
    if method != "pca":  # two of many directions don't separate patients
        assert np.mean(latents.patient[distances.argmin(1)] == latents.patient) > 0.9
    again = project(principal_components(latents.flat), method, settings)
    assert np.array_equal(projection.points, again.points)


@pytest.mark.parametrize("method", EACH)
def test_the_fewest_images(method):
    latents = make_latents(patients=5, slices=1)
    flat = latents.flat[:MIN_IMAGES]
    settings, message = adapt_to_count(ProjectionSettings(), MIN_IMAGES)
    assert "instead of 40" in message
    assert np.isfinite(project(principal_components(flat), method, settings).points).all()
    with pytest.raises(DataError, match="found 4 images"):
        principal_components(flat[:4])


def test_settings_that_fit_are_kept():
    assert adapt_to_count(ProjectionSettings(), 400) == (ProjectionSettings(), "")
    adapted, message = adapt_to_count(ProjectionSettings(n_neighbors=40, perplexity=5), 61)
    assert (adapted.n_neighbors, adapted.perplexity) == (20, 5)
    assert message == "61 images: n_neighbors=20 instead of 40."


def test_components_are_the_directions_of_variance():
    random = np.random.default_rng(0)
    directions = np.linalg.qr(random.normal(size=(12, 2)))[0].T
    flat = (random.normal(size=(60, 2)) * (10, 1)) @ directions
    components = principal_components(flat.astype(np.float32))
    sizes = np.linalg.svd(flat - flat.mean(0), compute_uv=False)
    assert components.explained_variance[:2].sum() == pytest.approx(1, abs=1e-4)
    assert components.scores[:, :2].std(0) == pytest.approx(sizes[:2] / 60**0.5, rel=1e-4)
