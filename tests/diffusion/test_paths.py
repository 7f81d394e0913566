"""Paths: coefficients against their papers, exact ends, the way there and back, times and weights."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.oracles import EXAMPLES, PATHS
from pti.diffusion.formulation import DiffusionPath, min_snr_weight
from pti.diffusion.paths import BrownianBridge, Cosine, RectifiedFlow, ScaledLinear


def _from_betas(betas: np.ndarray, zero_terminal_snr: bool) -> np.ndarray:
    """(T + 1, 3) of a, b and s; Lin et al. (2024), algorithm 1, on √ᾱ."""
    root = np.sqrt(np.cumprod(1 - betas))
    if zero_terminal_snr:
        first, last = root[0], root[-1]
        root = (root - last) * first / (first - last)
    a = np.append(1.0, root)
    return np.stack([a, 0 * a, np.sqrt(1 - a**2)], axis=1)


def _scaled_linear(zero_terminal_snr: bool = False) -> np.ndarray:
    return _from_betas(np.linspace(0.0015**0.5, 0.0195**0.5, 1000) ** 2, zero_terminal_snr)


def _cosine(zero_terminal_snr: bool = False) -> np.ndarray:
    alpha_bar = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    return _from_betas(np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999), zero_terminal_snr)


T = np.arange(1001) / 1000
CLOCK = np.append(np.sin(np.pi / 2 * T[:-1]) ** 2, 1)
COEFFICIENTS = {
    "ScaledLinear": _scaled_linear(),
    "ScaledLinear-even": _scaled_linear(),
    "ScaledLinear-zero-snr": _scaled_linear(zero_terminal_snr=True),
    "Cosine": _cosine(),
    "Cosine-zero-snr": _cosine(zero_terminal_snr=True),
    "RectifiedFlow": np.stack([1 - T, 0 * T, T], axis=1),
    "RectifiedFlow-condition": np.stack([1 - T, T, 0.5 * T], axis=1),
    "RectifiedFlow-quadratic": np.stack([1 - T, T, 0.5 * T], axis=1),
    "BrownianBridge": np.stack([1 - CLOCK, CLOCK, 0.5 * np.sqrt(CLOCK * (1 - CLOCK))], axis=1),
}
"""As the papers have them, by hand: a new path needs an entry."""


def _all_times(path: DiffusionPath) -> Tensor:
    return path.sampling_times(1000).flip(0)


def _latents(times: Tensor, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """x0, noise, source; (B, 2, 3, 3)."""
    generator = torch.Generator().manual_seed(0)
    x0, noise, source = (torch.randn(len(times), 2, 3, 3, generator=generator).to(dtype) for _ in range(3))
    return x0, noise, source


@pytest.mark.parametrize("name", EXAMPLES)
def test_coefficients_are_the_papers(name: str) -> None:
    at = EXAMPLES[name].coefficients(torch.arange(1001, dtype=torch.float64) / 1000)
    found = torch.stack([at.x0, at.source, at.noise], dim=1)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, COEFFICIENTS[name], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", EXAMPLES)
def test_ends_are_exact(name: str) -> None:
    at = EXAMPLES[name].coefficients(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert (at.x0[0], at.source[0], at.noise[0]) == (1, 0, 0)
    if "ScaledLinear" not in name and name != "Cosine":
        assert at.x0[1] == 0
    if "zero-snr" in name:
        assert at.x0[1] == 0
        assert at.noise[1] == 1
    if name == "BrownianBridge":
        assert at.source[1] == 1
        assert at.noise[1] == 0


@pytest.mark.parametrize("name", PATHS)
def test_there_and_back(name: str) -> None:
    path = PATHS[name]
    t = _all_times(path)
    x0, noise, source = _latents(t)
    pair = path.training_pair(x0, noise, t, source)
    estimate = path.estimate(pair.target, pair.x_t, t, source)
    torch.testing.assert_close(estimate.x0, x0, rtol=0, atol=1e-12)
    lost = path.coefficients(t).noise == 0
    torch.testing.assert_close(estimate.noise[~lost], noise[~lost], rtol=0, atol=1e-10)
    # Where x_t holds no noise, the estimate is either exact (the output shows it) or the mean, 0.
    for found, true in zip(estimate.noise[lost], noise[lost], strict=True):
        assert torch.equal(found, torch.zeros_like(found)) or torch.allclose(found, true, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", PATHS)
def test_estimates_are_well_conditioned(name: str, dtype: torch.dtype) -> None:
    """Rounding the latents and the output moves the estimates no more than the question itself asks."""
    path = PATHS[name]
    t = _all_times(path)
    x0, noise, source = _latents(t, dtype)
    pair = path.training_pair(x0, noise, t, source)
    estimate = path.estimate(pair.target, pair.x_t, t, source)
    assert pair.x_t.dtype == pair.target.dtype == estimate.x0.dtype == estimate.noise.dtype == dtype
    back, at = path.parameterization(t), path.coefficients(t)
    gain = 4 * (1 + back.x0[0].abs() + back.x0[1].abs()) * torch.finfo(dtype).eps
    error = (estimate.x0.double() - x0.double()).flatten(1)
    assert (error.square().mean(1).sqrt() <= gain * 3).all()
    assert estimate.noise.isfinite().all()
    if not name.endswith("sample"):
        # Only ``sample`` divides by the noise that is left, down to the last step before t = 0.
        inside = at.noise > 0
        gain = 4 * (1 + back.noise[0].abs() + back.noise[1].abs()) * torch.finfo(dtype).eps
        error = (estimate.noise.double() - noise.double()).flatten(1).square().mean(1).sqrt()
        assert (error[inside] <= 3 * gain[inside]).all()


@pytest.mark.parametrize("name", PATHS)
def test_one_time_for_all_is_the_same_as_one_each(name: str) -> None:
    path = PATHS[name]
    t = path.sampling_times(7)
    x0, noise, source = _latents(t)
    together = path.training_pair(x0, noise, t, source)
    for i, time in enumerate(t):
        alone = path.training_pair(x0[i : i + 1], noise[i : i + 1], time, source[i : i + 1])
        assert torch.equal(alone.x_t, together.x_t[i : i + 1])
        assert torch.equal(alone.target, together.target[i : i + 1])
        assert torch.equal(alone.timesteps, together.timesteps[i])


@pytest.mark.parametrize("name", EXAMPLES)
def test_sampling_times_fall_on_the_path(name: str) -> None:
    path = EXAMPLES[name]
    for steps in [*range(1, 60), 333, 999, 1000]:
        times = path.sampling_times(steps)
        assert len(times) == steps + 1
        assert times[0] == 1
        assert times[-1] == 0
        assert (times.diff() < 0).all()
        assert len(path.schedule(times).noise) == steps + 1
    with pytest.raises(ValueError, match="at least 1"):
        path.sampling_times(0)
    with pytest.raises(ValueError, match="fall from"):
        path.schedule(path.sampling_times(4).flip(0))


def test_discrete_paths_know_their_times() -> None:
    path = ScaledLinear()
    with pytest.raises(ValueError, match="1000 steps; found steps=1001"):
        path.sampling_times(1001)
    with pytest.raises(ValueError, match="k/1000"):
        path.coefficients(torch.tensor(0.01234, dtype=torch.float64))
    assert path.timesteps(_all_times(path)[1:]).tolist() == list(range(1000))
    even = ScaledLinear(spacing="even").sampling_times(50) * 1000
    assert even.tolist() == list(range(1000, -1, -20))


@pytest.mark.parametrize("name", EXAMPLES)
def test_training_times(name: str) -> None:
    path = EXAMPLES[name]
    times = path.training_times(20000, torch.Generator().manual_seed(0))
    assert times.dtype == torch.float64
    assert torch.equal(times, path.training_times(20000, torch.Generator().manual_seed(0)))
    # All quantiles: Kolmogorov and Smirnov's bound at 1e-6.
    expected = (torch.arange(20000) + 0.5) / 20000
    if getattr(path, "times", "uniform") == "quadratic":
        times = 1 - (1 - times).sqrt()
    assert (times.sort().values - expected).abs().max() < 0.019 + 1e-3
    path.coefficients(times)
    timesteps = path.timesteps(times)
    assert timesteps.dtype == torch.float32
    assert timesteps.min() >= 0
    assert timesteps.max() <= 1000


def test_discrete_training_times_hold_noise_and_reach_the_end() -> None:
    times = ScaledLinear(steps=10).training_times(2000, torch.Generator().manual_seed(0))
    assert sorted((times * 10).unique().round().tolist()) == list(range(1, 11))


def test_quadratic_steps_are_finer_towards_the_start() -> None:
    times = RectifiedFlow(spacing="quadratic").sampling_times(4)
    torch.testing.assert_close(times, torch.tensor([1, 0.9375, 0.75, 0.4375, 0], dtype=torch.float64))


def test_logit_normal_times() -> None:
    times = RectifiedFlow(times="logit_normal").training_times(20000, torch.Generator().manual_seed(0))
    logits = times.logit()
    assert abs(logits.mean()) < 0.03
    assert abs(logits.std() - 1) < 0.03


def test_start() -> None:
    noise, source = (torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    torch.testing.assert_close(ScaledLinear().start(noise), noise)
    assert torch.equal(RectifiedFlow().start(noise), noise)
    assert torch.equal(BrownianBridge().start(noise, source), source)
    flow = RectifiedFlow(start="condition", noise_std=0.5)
    torch.testing.assert_close(flow.start(noise, source), source + 0.5 * noise)
    for path in (BrownianBridge(), flow):
        with pytest.raises(ValueError, match="source=None"):
            path.start(noise)


def test_min_snr_is_the_papers() -> None:
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    a, _, s = COEFFICIENTS["ScaledLinear"][1:].T
    snr = torch.from_numpy((a / s) ** 2)
    capped = snr.clamp(max=5)
    for target, expected in {"epsilon": capped / snr, "v": capped / (snr + 1), "sample": capped}.items():
        torch.testing.assert_close(min_snr_weight(ScaledLinear(target), t, 5.0), expected)


@pytest.mark.parametrize("name", PATHS)
def test_min_snr_is_finite_everywhere(name: str) -> None:
    path = PATHS[name]
    weight = min_snr_weight(path, _all_times(path), gamma=5.0)
    assert weight.isfinite().all()
    assert (weight >= 0).all()
    assert (weight <= 5).all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Cosine("epsilon"), "choose v or sample"),
        (lambda: ScaledLinear("epsilon", zero_terminal_snr=True), "choose v or sample"),
        (lambda: ScaledLinear("velocity"), "epsilon, v, sample"),
        (lambda: ScaledLinear(spacing="karras"), "even or quadratic"),
        (lambda: RectifiedFlow("epsilon"), "velocity, sample"),
        (lambda: RectifiedFlow("change"), "choose velocity or sample"),
        (lambda: RectifiedFlow(start="edente"), "noise or condition"),
        (lambda: RectifiedFlow(times="normal"), "uniform, logit_normal or quadratic"),
        (lambda: RectifiedFlow(spacing="odd"), "even or quadratic"),
        (lambda: BrownianBridge("velocity"), "residual, sample"),
        (lambda: BrownianBridge(noise_std=0.0), "greater than 0"),
        (lambda: RectifiedFlow(noise_std=math.nan), "greater than 0"),
    ],
)
def test_what_does_not_fit_is_refused(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
