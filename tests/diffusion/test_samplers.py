"""What samplers promise whoever calls them: noise, progress, evaluations, starts, errors."""

from functools import partial

import pytest
import torch
from torch import Tensor

from helpers.oracles import EXAMPLES, Gaussian, exact_denoiser
from helpers.papers import ITERATIVE, SAMPLERS, STOCHASTIC
from pti.diffusion import samplers
from pti.diffusion.paths import Cosine, RectifiedFlow, ScaledLinear


def _bent(x: Tensor, timesteps: Tensor) -> Tensor:
    """A network: each sample's output depends on it alone."""
    time = timesteps.reshape(-1, *(1,) * (x.dim() - 1)) / 1000
    return torch.tanh(1.3 * x - 0.4) * (0.5 + time) + 0.2 * torch.sin(3 * x)


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_sample_depends_on_its_own_generator_alone(name: str, sampler: str) -> None:
    path = EXAMPLES[name]
    source = torch.randn(7, 2, 4, 4, generator=torch.Generator().manual_seed(99))

    def run(which: list[int]) -> Tensor:
        generators = [torch.Generator().manual_seed(i) for i in which]
        noise = samplers.gaussian_noise(torch.empty(len(which), 2, 4, 4), generators)
        return samplers.sample(path, _bent, SAMPLERS[sampler], 5, noise, generators, source=source[which])

    together = run([0, 1, 2, 3, 4, 5, 6])
    assert together.isfinite().all()
    assert torch.equal(torch.cat([run([i]) for i in range(7)]), together)
    order = [4, 2, 6, 0]
    assert torch.equal(run(order), together[order])


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_everything_moves_to_the_device_of_the_latents(name: str, sampler: str) -> None:
    noise = torch.empty(3, 2, 4, 4, device="meta")
    found = samplers.sample(
        EXAMPLES[name], _bent, SAMPLERS[sampler], 2, noise, torch.Generator(), source=noise
    )
    assert found.device.type == "meta"
    times = EXAMPLES[name].training_times(3, torch.Generator())
    pair = EXAMPLES[name].training_pair(noise, noise, times, noise)
    assert pair.x_t.device.type == pair.timesteps.device.type == pair.target.device.type == "meta"


def test_noise() -> None:
    generators = [torch.Generator().manual_seed(i) for i in range(3)]
    with pytest.raises(ValueError, match="expected 2, found 3"):
        samplers.gaussian_noise(torch.empty(2, 4), generators)
    half = samplers.gaussian_noise(torch.empty(3, 4, dtype=torch.bfloat16), generators)
    generators = [torch.Generator().manual_seed(i) for i in range(3)]
    full = samplers.gaussian_noise(torch.empty(3, 4), generators)
    assert torch.equal(half, full.bfloat16())


@pytest.mark.parametrize("sampler", ITERATIVE)
def test_progress_and_evaluations(sampler: str) -> None:
    calls, seen = [], []

    def network(x: Tensor, timesteps: Tensor) -> Tensor:
        calls.append(timesteps)
        return _bent(x, timesteps)

    result = samplers.sample(
        ScaledLinear(spacing="even"),
        network,
        SAMPLERS[sampler],
        4,
        torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0)),
        torch.Generator().manual_seed(1),
        progress=lambda step, x, estimate: seen.append((step, x, estimate.x0)),
    )
    assert [step for step, _, _ in seen] == [1, 2, 3, 4]
    assert torch.equal(seen[-1][1], result)
    assert torch.equal(seen[-1][2], result)  # the last step goes all the way to the target's estimate
    assert len(calls) == (7 if sampler == "heun" else 4)
    assert [t.shape for t in calls] == [(3,)] * len(calls)
    assert {float(t[0]) for t in calls} == {999, 749, 499, 249}


def test_deterministic_samplers_draw_nothing() -> None:
    for name in set(SAMPLERS) - set(STOCHASTIC):
        generator = torch.Generator().manual_seed(0)
        noise = torch.zeros(2, 1, 2, 2)
        samplers.sample(RectifiedFlow(), _bent, SAMPLERS[name], 3, noise, generator)
        assert torch.equal(generator.get_state(), torch.Generator().manual_seed(0).get_state())


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_first_step_is_one_evaluation_at_the_start(name: str) -> None:
    """It is Euler's result with a single step, whatever the number of steps."""
    calls, seen = [], []

    def network(x: Tensor, timesteps: Tensor) -> Tensor:
        calls.append(timesteps)
        return _bent(x, timesteps)

    noise, source = (torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(i)) for i in range(2))
    draw = partial(samplers.sample, EXAMPLES[name], source=source)
    expected = draw(network, samplers.euler, 1, noise, torch.Generator())
    calls.clear()
    result = draw(
        network,
        samplers.first_step,
        20,
        noise,
        torch.Generator(),
        progress=lambda step, x, estimate: seen.append((step, x)),
    )
    assert len(calls) == 1
    torch.testing.assert_close(result, expected)
    assert [step for step, _ in seen] == [1]
    assert torch.equal(seen[0][1], result)


def test_sampling_can_start_on_the_way() -> None:
    path, truth = RectifiedFlow(), Gaussian()
    times = torch.tensor([0.5, 0.25, 0.0], dtype=torch.float64)
    start = torch.linspace(-1, 1, 5, dtype=torch.float64)
    denoise = exact_denoiser(path, truth, source=0.0)
    found = samplers.euler(denoise, start, path.schedule(times), torch.Generator())
    middle = start - 0.25 * denoise(start, 0.5).velocity
    torch.testing.assert_close(found, middle - 0.25 * denoise(middle, 0.25).velocity)


@pytest.mark.parametrize("eta", [-0.1, 1.1])
def test_eta_has_its_range(eta: float) -> None:
    path = RectifiedFlow()
    with pytest.raises(ValueError, match="expected a number from 0"):
        samplers.sample(
            path, _bent, partial(samplers.ddim, eta=eta), 2, torch.zeros(1, 1, 2, 2), torch.Generator()
        )


def test_more_steps_than_the_path_has_are_refused() -> None:
    with pytest.raises(ValueError, match="steps=1001"):
        samplers.sample(Cosine(), _bent, samplers.ddim, 1001, torch.zeros(1, 1, 2, 2), torch.Generator())


def test_clipped_estimates_stay_on_the_path() -> None:
    path, seen = ScaledLinear(steps=20, beta_end=0.4), []
    noise = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    clipped = partial(samplers.ddpm, clip=0.5)
    draw = partial(samplers.sample, path, lambda x, t: torch.zeros_like(x), steps=20, noise=noise)
    result = draw(
        sampler=clipped,
        generator=torch.Generator().manual_seed(1),
        progress=lambda step, x, estimate: seen.append(estimate),
    )
    assert float(result.abs().max()) <= 0.5
    assert max(float(estimate.x0.abs().max()) for estimate in seen) == 0.5
    at = path.coefficients(torch.tensor(1.0, dtype=torch.float64))
    torch.testing.assert_close(float(at.x0) * seen[0].x0 + float(at.noise) * seen[0].noise, noise)
    free, wide = (
        draw(sampler=sampler, generator=torch.Generator().manual_seed(1))
        for sampler in (samplers.ddpm, partial(samplers.ddpm, clip=1e9))
    )
    torch.testing.assert_close(free, wide)
    with pytest.raises(ValueError, match="clip=0"):
        draw(sampler=partial(samplers.ddpm, clip=0.0), generator=torch.Generator())
