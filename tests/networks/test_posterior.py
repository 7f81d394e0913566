"""Samples of the posterior, with additional noise or without."""

import torch

from pti.networks.posterior import Posterior

SPREADS = torch.tensor([3.0, 0.1]).view(1, 2, 1, 1)


def posterior(std: float) -> Posterior:
    mean = SPREADS * torch.randn(64, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    return Posterior(mean, torch.full_like(mean, std))


def sample(of: Posterior, **options: float) -> torch.Tensor:
    return of.sample(torch.Generator().manual_seed(1), **options)


def test_samples_have_the_posteriors_moments():
    of = posterior(0.5)
    noise = sample(of) - of.mean
    assert abs(float(noise.mean())) < 0.01
    torch.testing.assert_close(noise.std(), torch.tensor(0.5), rtol=0.01, atol=0)
    assert torch.equal(sample(of, noise=0.0), sample(of))


def test_additional_noise_is_relative_to_the_channels_and_varies_with_the_image():
    of = posterior(0.0)
    added = (sample(of, noise=0.2) - of.mean) / SPREADS
    strengths = added.std((2, 3))
    torch.testing.assert_close(strengths[:, 0], strengths[:, 1], rtol=0.2, atol=0)
    torch.testing.assert_close(strengths.square().mean().sqrt(), torch.tensor(0.2), rtol=0.2, atol=0)
    assert strengths.min() < 0.05 < 0.3 < strengths.max()
