"""Losses: closed forms, gradients, and every loss in the configuration."""

import math

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.distributions import Normal, kl_divergence

from pti import losses
from pti.common.conf_dir import CONF_DIR
from pti.metrics.calibration import crps_normal

ADVERSARIAL = sorted(
    path.stem for path in (CONF_DIR / "model/adversarial").glob("*.yaml") if path.stem != "none"
)
TERMS = sorted(path.stem for path in (CONF_DIR / "model/extra_losses").glob("*.yaml"))


def gradient(tensor: torch.Tensor) -> torch.Tensor:
    assert tensor.grad is not None
    return tensor.grad


def images(seed: int, size: int = 16) -> torch.Tensor:
    return torch.rand(2, 1, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_reconstruction_losses_are_means_over_pixels():
    a, b = images(0), images(1)
    torch.testing.assert_close(losses.l1(a, b), (a - b).abs().mean())
    torch.testing.assert_close(losses.l2(a, b), (a - b).square().mean())


def test_kl_is_the_sum_over_latents_of_the_closed_form():
    mean, std = torch.randn(3, 4, 5, 5), torch.rand(3, 4, 5, 5) + 0.1
    expected = kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).sum((1, 2, 3))
    torch.testing.assert_close(losses.kl_per_image(mean, std), expected)
    torch.testing.assert_close(losses.kl_divergence(mean, std), expected.mean())
    assert losses.kl_divergence(torch.zeros(1, 4, 2, 2), torch.ones(1, 4, 2, 2)) == 0


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_adversarial_losses_pull_the_logits_the_right_way(name: str):
    loss = instantiate(OmegaConf.load(CONF_DIR / f"model/adversarial/{name}.yaml"))
    assert loss.name == name
    real, fake = (torch.full((2, 1, 3, 3), 0.5, requires_grad=True) for _ in range(2))
    loss.discriminator(real, fake).backward()
    assert (gradient(real) < 0).all()  # descent raises the real logits
    assert (gradient(fake) > 0).all()
    fake.grad = None
    loss.generator(fake).backward()
    assert (gradient(fake) < 0).all()
    # No saturation: a hopeless generator still gets a full gradient.
    hopeless = torch.full((1, 1, 1, 1), -50.0, requires_grad=True)
    loss.generator(hopeless).backward()
    assert gradient(hopeless).abs().max() >= 1


def test_a_perfect_discriminator_has_no_loss():
    ones, zeros = torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    assert losses.lsgan().discriminator(ones, zeros) == 0
    assert losses.lsgan().generator(ones) == 0
    assert losses.hinge().discriminator(ones, -ones) == 0


@pytest.mark.parametrize("name", TERMS)
def test_terms_vanish_for_equal_images_and_have_a_finite_gradient(name: str):
    (key, term), *others = instantiate(OmegaConf.load(CONF_DIR / f"model/extra_losses/{name}.yaml")).items()
    assert (key, others) == (name, [])
    image = images(0)
    for reconstruction, is_zero in ((image.clone(), True), (images(1), False)):
        reconstruction.requires_grad_()
        features = {
            "fake_features": [reconstruction, 2 * reconstruction],
            "real_features": [image, 2 * image],
        }
        value = term({"reconstruction": reconstruction, "image": image, **features})
        value.backward()
        assert value.ndim == 0
        assert (value == 0) == is_zero
        assert gradient(reconstruction).isfinite().all()


def test_gradient_term_sees_edges_and_no_offset():
    image = images(0)
    torch.testing.assert_close(losses.gradient(image + 0.5, image), torch.tensor(0.0), atol=1e-6, rtol=0)
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    torch.testing.assert_close(losses.gradient(ramp, torch.zeros_like(ramp)), torch.tensor(1.0))


def test_focal_frequency_of_a_single_wave():
    # A cosine of amplitude a on n×n pixels: two coefficients of modulus a·n/2, each of weight 1.
    n, a = 16, 0.5
    wave = a * torch.cos(2 * math.pi * 3 * torch.arange(n) / n).expand(1, 1, n, n)
    expected = torch.tensor(2 * (a * n / 2) ** 2 / n**2)
    torch.testing.assert_close(losses.focal_frequency(wave, torch.zeros_like(wave)), expected)


def test_losses_are_computed_in_float32():
    half = images(0).half()
    assert losses.l1(half, half).dtype == torch.float32
    assert (
        losses.kl_divergence(torch.full((1, 4, 64, 64), 3.0).half(), torch.ones(1, 4, 64, 64).half()) > 65504
    )


def test_a_term_that_asks_for_something_unknown_is_refused():
    with pytest.raises(ValueError, match="unknown arguments of a loss: picture"):
        losses.Term(1.0, lambda picture: picture)


def test_the_crps_of_a_normal_distribution_is_that_of_the_metrics_and_skips_unknown_values():
    generator = torch.Generator().manual_seed(0)
    mean, spread, value = torch.randn(3, 20, generator=generator, dtype=torch.float64)
    std = spread.exp()
    expected = crps_normal(mean.numpy(), std.numpy(), value.numpy())
    assert np.allclose(losses.gaussian_crps(mean, std, value), expected)
    value[0] = torch.nan
    mean.requires_grad_()
    scores = losses.gaussian_crps(mean, std, value)
    scores.nansum().backward()
    assert scores[0].isnan()
    assert gradient(mean)[0] == 0
    assert gradient(mean).isfinite().all()


def test_attribute_order_is_the_papers_formula():
    generator = torch.Generator().manual_seed(0)
    attributes, values = (torch.randn(5, 2, generator=generator) for _ in range(2))
    expected = torch.tensor(0.0)
    for k in range(2):
        for i in range(5):
            for j in range(5):
                order = torch.sign(values[i, k] - values[j, k])
                expected += (torch.tanh(3 * (attributes[i, k] - attributes[j, k])) - order).abs() / 50
    torch.testing.assert_close(losses.attribute_order(attributes, values, 3.0), expected)
    assert losses.attribute_order(100 * values, values, 3.0) < 1e-3


def test_unknown_values_give_attributes_no_gradient():
    attributes = torch.zeros(3, 1, requires_grad=True)
    values = torch.tensor([[1.0], [torch.nan], [2.0]])
    losses.attribute_order(attributes, values, 1.0).backward()
    assert attributes.grad is not None
    assert attributes.grad[1] == 0
    assert attributes.grad[0] > 0 > attributes.grad[2]
    assert losses.attribute_order(attributes, torch.full((3, 1), torch.nan), 1.0) == 0
