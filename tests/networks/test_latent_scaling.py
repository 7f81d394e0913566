"""Latents come to mean 0 and standard deviation 1, by statistics that travel along."""

import pytest
import torch
from torch import Tensor

from pti.networks.latent_scaling import LatentScaling


def latents() -> Tensor:
    noise = torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    return noise * torch.tensor([0.1, 2.0, 30.0]).view(3, 1, 1) + torch.tensor([5.0, -1.0, 0.0]).view(3, 1, 1)


def fitted(values: Tensor) -> LatentScaling:
    scaling, wide = LatentScaling(values.shape[1]), values.double()
    count = torch.tensor(values.numel() / values.shape[1], dtype=torch.float64)
    scaling.fit(count, wide.sum((0, 2, 3)), wide.square().sum((0, 2, 3)))
    return scaling


def test_each_channel_comes_to_unit_standard_deviation():
    scaled = fitted(latents()).normalize(latents())
    torch.testing.assert_close(scaled.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(scaled.std((0, 2, 3), unbiased=False), torch.ones(3), rtol=1e-5, atol=0)


def test_there_and_back():
    scaling = fitted(latents())
    torch.testing.assert_close(
        scaling.denormalize(scaling.normalize(latents())), latents(), rtol=1e-5, atol=1e-5
    )


def test_identity_until_fitted():
    scaling = LatentScaling(3)
    assert not scaling.fitted
    assert torch.equal(scaling.normalize(latents()), latents())
    assert torch.equal(scaling.denormalize(latents()), latents())


def test_the_statistics_travel_in_the_state_dict():
    scaling, other = fitted(latents()), LatentScaling(3)
    other.load_state_dict(scaling.state_dict())
    assert other.fitted
    assert torch.equal(other.normalize(latents()), scaling.normalize(latents()))


@pytest.mark.parametrize("channel", [torch.full((6, 5, 5), 0.7), torch.full((6, 5, 5), torch.nan)])
def test_a_channel_that_does_not_vary_is_refused(channel: Tensor):
    values = latents()
    values[:, 1] = channel
    with pytest.raises(ValueError, match="does not vary"):
        fitted(values)
