"""The plain loop of stage 1 has the loss of ours."""

from pathlib import Path

import pytest
import torch

from helpers.benchmark_setup import small_settings
from pti.benchmark.experiments import fix_seed, phantom_overrides
from pti.benchmark.suites.vae import PlainVae, vae_suite
from pti.networks.posterior import Posterior


def test_both_sides_have_the_same_losses_and_networks(tmp_path: Path):
    with small_settings(tmp_path) as settings:
        fix_seed()
        module = settings.build("vae_demo", phantom_overrides(settings, 32, 2, 2)).module
    weights = (module.objective.kl_weight, module.objective.perceptual_weight, module.adv_weight)
    plain = PlainVae(module.autoencoder, module.discriminator, module.perceptual, *weights)
    image, noise = torch.rand(2, 1, 32, 32) * 2 - 1, torch.randn(2, 4, 8, 8)
    loss, reconstruction = plain.generator_loss(image, noise)
    posterior = Posterior(*module.autoencoder.encode(image))
    own = module.autoencoder.decode(posterior.mean + posterior.std * noise)
    expected, _ = module.objective(image, own, posterior, module.discriminator)
    torch.testing.assert_close(loss, expected)
    real, fake = (module.discriminator(images)[-1] for images in (image, reconstruction))
    expected = module.adversarial.discriminator(real, fake)
    torch.testing.assert_close(plain.discriminator_loss(image, reconstruction), expected)


def test_a_step_of_the_plain_loop_changes_both_networks(tmp_path: Path):
    with small_settings(tmp_path) as settings:
        module = settings.build("vae_demo", phantom_overrides(settings, 32, 2, 2)).module
    plain = PlainVae(module.autoencoder, module.discriminator, module.perceptual, 1e-6, 0.1, 0.1)
    networks = (module.autoencoder, module.discriminator)
    before = [[p.detach().clone() for p in network.parameters()] for network in networks]
    assert all(value > 0 for value in plain.step(torch.rand(2, 1, 32, 32)).values())
    for network, values in zip(networks, before, strict=True):
        assert any((p != old).any() for p, old in zip(network.parameters(), values, strict=True))


@pytest.mark.slow
def test_every_side_runs(tmp_path: Path):
    with small_settings(tmp_path, batch_size=2) as settings:
        for comparison in vae_suite(settings):
            assert comparison.items == 2
            for side in comparison.sides:
                side.build().run()
