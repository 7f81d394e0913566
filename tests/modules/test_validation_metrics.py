import copy
import math

import pytest
import torch

from pti.modules.validation_metrics import (
    ReconstructionMetrics,
    RunningMeans,
    ValidationMetrics,
    Variation,
    relative_variation,
)
from pti.networks.posterior import Posterior

CPU = torch.device("cpu")


def started(*names: str) -> RunningMeans:
    means = RunningMeans(names)
    means.start(CPU)
    return means


def test_every_sample_of_every_rank_weighs_the_same():
    ranks = [started("a", "b", "never") for _ in range(3)]
    ranks[0].update("a", torch.tensor([1.0, 2.0, 3.0]))
    ranks[1].update("a", torch.tensor([10.0]))
    ranks[1].update("b", torch.tensor([math.nan, 4.0]), skip_nan=True)
    whole = copy.deepcopy(ranks[0])
    for rank in ranks[1:]:
        whole.merge_state(rank)
    assert whole.compute() == {"a": 4.0, "b": 4.0}


def pictures(count: int) -> torch.Tensor:
    """Return images whose left half is background, -1, and differs in brightness."""
    images = -torch.ones(count, 1, 32, 32)
    images[..., 16:] = torch.linspace(-0.5, 1.0, count).view(-1, 1, 1, 1)
    return images


def compared(image: torch.Tensor, prediction: torch.Tensor) -> dict[str, float]:
    metrics = ValidationMetrics([])
    metrics.reset(CPU)
    metrics.add_images(image, prediction)
    return metrics.compute()


def test_a_constant_image_is_no_better_than_the_best_constant():
    image = pictures(5)
    black = compared(image, -torch.ones_like(image))
    assert (black["l1_vs_constant"], black["variation"]) == (1.0, 0.0)
    mean = compared(image, image.mean(0, keepdim=True).expand_as(image))
    assert mean["variation"] == pytest.approx(0.0, abs=1e-9)
    assert compared(image, image)["l1_vs_constant"] == 0.0
    assert compared(image, image)["variation"] == pytest.approx(1.0)


def test_variation_is_that_of_all_images_whatever_the_ranks():
    image, prediction = pictures(5), pictures(5) * torch.rand(5, 1, 1, 1)
    whole, *ranks = (Variation() for _ in range(3))
    whole.update(image, prediction)
    ranks[0].update(image[:1], prediction[:1])
    ranks[1].update(image[1:], prediction[1:])
    ranks[0].merge_state(ranks[1])
    assert ranks[0].compute() == pytest.approx(whole.compute(), rel=1e-5)
    assert whole.compute() == pytest.approx(float(relative_variation(image, prediction)), rel=1e-5)
    alike = Variation()
    alike.update(image[:1], prediction[:1])
    assert math.isnan(alike.compute())


@pytest.mark.parametrize(
    ("used", "active"), [((True, True), 2.0), ((True, False), 1.0), ((False, False), 0.0)]
)
def test_a_channel_that_the_decoder_ignores_is_not_active(used: tuple[bool, bool], active: float):
    metrics = ReconstructionMetrics(2, perceptual=None, bone=False)
    metrics.reset(CPU)
    weights = torch.tensor(used).float().view(1, 2, 1, 1)
    mean = torch.randn(4, 2, 32, 32)
    metrics.add_latents(
        Posterior(mean, torch.ones_like(mean)), pictures(4), lambda z: (weights * z).sum(1, keepdim=True)
    )
    assert metrics.compute()["active_units"] == active


def test_a_diverged_model_is_not_hidden():
    means = started("a")
    means.update("a", torch.tensor([1.0, math.nan]))
    assert math.isnan(means.compute()["a"])


def test_sums_lose_nothing_and_start_anew():
    means = started("a")
    for _ in range(3):
        means.update("a", torch.full((1000,), 1e-8))
    means.update("a", torch.tensor([1e6]))
    assert means.compute()["a"] == pytest.approx((3e-5 + 1e6) / 3001, rel=1e-12)
    means.start(CPU)
    means.update("a", torch.tensor([2.0]))
    assert means.compute() == {"a": 2.0}
