"""Guidance: the paper's formula for every network target, an exact distribution, whole conditions dropped."""

import pytest
import torch
from torch import Tensor

from helpers.oracles import PATHS, Gaussian, exact_denoiser
from pti.diffusion import samplers
from pti.diffusion.guidance import drop_condition, guided
from pti.diffusion.paths import RectifiedFlow


def _network(x: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
    return torch.sin(x) * timesteps.reshape(-1, 1, 1, 1) + condition**2 - condition


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0])
def test_guided_is_the_papers_formula(scale: float) -> None:
    x, condition = (torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    timesteps = torch.tensor([1.0, 500.0, 999.0])
    null = torch.full((2, 1, 1), 0.3)
    given = _network(x, timesteps, condition)
    for chosen, without in ((None, torch.zeros_like(x)), (null, null.expand_as(x))):
        expected = (1 - scale) * _network(x, timesteps, without) + scale * given
        found = guided(_network, condition, scale, chosen)(x, timesteps)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_guided_evaluates_once() -> None:
    sizes = []

    def network(x: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        sizes.append((len(x), len(timesteps), len(condition)))
        return x

    x = torch.zeros(3, 2, 4, 4)
    for scale in (1.0, 2.0):
        guided(network, x, scale)(x, torch.zeros(3))
    assert sizes == [(3, 3, 3), (6, 6, 6)]


@pytest.mark.parametrize("name", PATHS)
def test_guidance_means_the_same_for_every_prediction_type(name: str) -> None:
    path = PATHS[name]
    t = path.sampling_times(10)[3]
    x, given, without, source = torch.randn(
        4, 5, 2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    guided_output = path.estimate(without + 2.5 * (given - without), x, t, source)
    estimates = [path.estimate(output, x, t, source).x0 for output in (without, given)]
    torch.testing.assert_close(guided_output.x0, estimates[0] + 2.5 * (estimates[1] - estimates[0]))


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0])
def test_guided_gaussians_move_along_their_line(scale: float) -> None:
    """Two Gaussians of one width: guidance is again such a Gaussian, its mean on the line through theirs."""
    path = RectifiedFlow()
    given, without = Gaussian(mean=1.0, std=0.5), Gaussian(mean=0.2, std=0.5)

    def network(x: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        time = round(float(timesteps[0])) / 1000
        answers = [exact_denoiser(path, truth, 0.0)(x, time).velocity for truth in (without, given)]
        return torch.where(condition == 1, answers[1], answers[0])

    condition = torch.ones(2, 1, dtype=torch.float64)
    start = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    found = samplers.sample(
        path, guided(network, condition, scale), samplers.heun, 100, start, torch.Generator()
    )
    assert abs(found[0] - (0.2 + scale * 0.8)) < 1e-3
    assert abs(found[1] - found[0] - 0.5) < 1e-3


def test_dropped_conditions() -> None:
    condition = torch.randn(4000, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    null = torch.full((2, 1, 1), 7.0)
    found = drop_condition(condition, 0.15, torch.Generator().manual_seed(1), null)
    assert torch.equal(found, drop_condition(condition, 0.15, torch.Generator().manual_seed(1), null))
    dropped = (found == 7).flatten(1).all(1)
    assert abs(dropped.double().mean() - 0.15) < 0.02
    assert torch.equal(found[~dropped], condition[~dropped])
    assert torch.equal(drop_condition(condition, 0.0, torch.Generator()), condition)
    assert (drop_condition(condition, 1.0, torch.Generator()) == 0).all()
