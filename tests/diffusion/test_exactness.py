"""With the exact denoiser of a known distribution, samplers do what their papers say, to rounding."""

import itertools
import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch

from helpers.oracles import (
    EXAMPLES,
    PATHS,
    Gaussian,
    Truth,
    TwoModes,
    exact_denoiser,
    signal_shares,
    start_from,
)
from helpers.papers import ITERATIVE, PAPERS, SAMPLERS, STOCHASTIC
from pti.diffusion import samplers
from pti.diffusion.formulation import DiffusionPath
from pti.diffusion.paths import BrownianBridge, ScaledLinear

SOURCE = 0.7
FEW = (1, 2, 4, 10, 50)
SECOND_ORDER = ("heun", "dpm_solver")
slow = partial(pytest.param, marks=pytest.mark.slow)
QUICK_AT_1000 = [name if name == "ScaledLinear" else slow(name) for name in EXAMPLES]


class Impulses:
    """Draws of a batch in which sample 0 gets zeros, and sample j a 1 at the j-th draw.

    What is linear in independent N(0, 1) draws then has, exactly, the mean of sample 0 and the variance
    Σ (sample j − sample 0)².
    """

    def __init__(self, size: int) -> None:
        self.size, self.count = size, 0

    def __call__(self) -> np.ndarray:
        self.count += 1
        draw = np.zeros(self.size)
        draw[self.count] = 1
        return draw


class Numbers:
    """N(0, 1), the same again for the same seed."""

    def __init__(self, size: int) -> None:
        self.size, self.random = size, np.random.default_rng(1)

    def __call__(self) -> np.ndarray:
        return self.random.standard_normal(self.size)


@dataclass(frozen=True)
class Case:
    """A path, a sampler and a distribution; w at t = 1 is N(start_mean, start_std²)."""

    path: DiffusionPath
    sampler: str
    steps: int
    truth: Truth
    start_mean: float = 0.0
    start_std: float = 1.0

    def ours(self, monkeypatch: pytest.MonkeyPatch, draw: Impulses | Numbers) -> np.ndarray:
        schedule = self.path.schedule(self.path.sampling_times(self.steps))
        # The start of a bridge holds no noise: the sampler itself draws it.
        first = draw() if schedule.noise[0] > 0 else np.zeros(draw.size)
        start = start_from(self.path, self.start_mean + self.start_std * first, SOURCE)
        monkeypatch.setattr(samplers, "gaussian_noise", lambda like, generator: torch.from_numpy(draw()))
        denoise = exact_denoiser(self.path, self.truth, SOURCE)
        return SAMPLERS[self.sampler](denoise, start, schedule, torch.Generator()).numpy()

    def papers(self, draw: Impulses | Numbers) -> np.ndarray:
        shares = signal_shares(self.path, self.path.sampling_times(self.steps))
        start = self.start_mean + self.start_std * draw()
        return PAPERS[self.sampler](self.truth.posterior_mean, shares, start, draw)


def _gaussian(path: DiffusionPath, sampler: str, steps: int, truth: Gaussian) -> Case:
    """From the exact distribution of w at t = 1."""
    share = signal_shares(path, path.sampling_times(1))[0]
    std = math.sqrt(share * truth.std**2 + 1 - share)
    return Case(path, sampler, steps, truth, math.sqrt(share) * truth.mean, std)


def _moments(batch: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of what ``Impulses`` went into."""
    return float(batch[0]), float(np.linalg.norm(batch[1:] - batch[0]))


def test_every_sampler_has_its_paper() -> None:
    assert SAMPLERS.keys() == PAPERS.keys()


@pytest.mark.parametrize("counts", [FEW, slow((1000,))], ids=["few", "1000"])
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", PATHS)
def test_gaussian_comes_out_as_discretised_theory_has_it(
    monkeypatch, name: str, sampler: str, counts: tuple[int, ...]
) -> None:
    truth = Gaussian(mean=1.0, std=0.5)
    for steps in counts:
        case = _gaussian(PATHS[name], sampler, steps, truth)
        mean, std = _moments(case.ours(monkeypatch, Impulses(steps + 3)))
        expected_mean, expected_std = _moments(case.papers(Impulses(steps + 3)))
        assert abs(mean - expected_mean) < 1e-10, steps
        assert abs(std - expected_std) < 1e-10, steps
        assert abs(mean - truth.mean) < 1e-10, steps
        if steps == 1 or sampler == "first_step":
            assert std <= 0.01 * truth.std  # one step is a regression: the mean, and nothing else


@pytest.mark.parametrize("sampler", ITERATIVE)
@pytest.mark.parametrize("name", QUICK_AT_1000)
def test_a_thousand_steps_are_right_to_one_percent(monkeypatch, name: str, sampler: str) -> None:
    """For a target of unit standard deviation, as scaled latents have it."""
    truth = Gaussian(mean=1.0, std=1.0)
    case = _gaussian(EXAMPLES[name], sampler, 1000, truth)
    mean, std = _moments(case.ours(monkeypatch, Impulses(1003)))
    assert abs(mean - truth.mean) < 1e-10
    assert abs(std / truth.std - 1) < 0.01


@pytest.mark.parametrize("sampler", ITERATIVE)
@pytest.mark.parametrize("name", ["RectifiedFlow", "RectifiedFlow-condition", "BrownianBridge"])
def test_error_falls_with_the_samplers_order(name: str, sampler: str) -> None:
    """That of discretised theory, which ours is to 1e-10, on the paths that are smooth at both ends."""
    truth = Gaussian(mean=1.0, std=0.5)
    cases = [_gaussian(EXAMPLES[name], sampler, steps, truth) for steps in (200, 400)]
    coarse, fine = (abs(_moments(case.papers(Impulses(case.steps + 3)))[1] - truth.std) for case in cases)
    order = 2 if sampler in SECOND_ORDER else 1
    if (name, sampler) == ("BrownianBridge", "dpm_solver"):
        order = 1.6  # λ is not smooth where the bridge starts
    assert abs(math.log2(coarse / fine) - order) < 0.25


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", PATHS)
def test_two_modes_come_out_as_discretised_theory_has_it(monkeypatch, name: str, sampler: str) -> None:
    for steps in FEW:
        case = Case(PATHS[name], sampler, steps, TwoModes())
        found, expected = case.ours(monkeypatch, Numbers(200)), case.papers(Numbers(200))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8, err_msg=f"{steps} steps")


def _two_modes(shares: np.ndarray, sampler: str, count: int = 2001) -> np.ndarray:
    """What discretised theory, which ours is to 1e-8, makes of evenly spread quantiles; sorted."""
    truth, draw = TwoModes(), Numbers(count)
    start = truth.quantiles(np.random.default_rng(0).permutation(_even(count)), shares[0])
    return np.sort(PAPERS[sampler](truth.posterior_mean, shares, start, draw))


def _even(count: int) -> np.ndarray:
    return (np.arange(count) + 0.5) / count


@pytest.mark.parametrize("sampler", [slow(name) if name in STOCHASTIC else name for name in ITERATIVE])
@pytest.mark.parametrize("name", QUICK_AT_1000)
def test_two_modes_at_a_thousand_steps(name: str, sampler: str) -> None:
    truth, path = TwoModes(), EXAMPLES[name]
    shares = signal_shares(path, path.sampling_times(1000))
    found = _two_modes(shares, sampler, 20001 if sampler in STOCHASTIC else 2001)
    chance = 0.02 if sampler in STOCHASTIC else 0.0  # three standard deviations of what 20001 draws decide
    assert abs(found.mean() - truth.mean) < (0.01 + chance) * truth.std
    assert abs(found.std() / truth.std - 1) < 0.01 + chance
    assert abs((found < 0).mean() - truth.weights[0]) < 0.01 + chance


@pytest.mark.parametrize("sampler", SECOND_ORDER)
def test_steps_are_dense_where_the_path_is_steep(sampler: str) -> None:
    """Quadratic steps against even ones; even in the bridge's angle against even in its clock."""
    diffusion, bridge = ScaledLinear(), BrownianBridge()
    even_clock = torch.linspace(1, 0, 21, dtype=torch.float64).sqrt().arcsin() * (2 / math.pi)
    for path, plain in ((diffusion, ScaledLinear(spacing="even").sampling_times(20)), (bridge, even_clock)):
        errors = []
        for times in (path.sampling_times(20), plain):
            found = _two_modes(signal_shares(path, times), sampler)
            errors.append(np.sqrt(np.mean((found - TwoModes().quantiles(_even(2001), 1.0)) ** 2)))
        assert errors[0] < 0.3 * errors[1]


def test_a_start_with_signal_shifts_the_mean() -> None:
    """ScaledLinear starts sampling from noise, training from a(1)·target + s(1)·noise, a(1) = 0.012."""
    truth = Gaussian(mean=1.0, std=0.5)

    def shift(path: DiffusionPath, sampler: str) -> float:
        return _moments(Case(path, sampler, 1000, truth).papers(Impulses(1003)))[0] - truth.mean

    at = ScaledLinear().coefficients(torch.ones((), dtype=torch.float64))
    a, s = float(at.x0), float(at.noise)
    theory = -a * truth.mean * truth.std / math.hypot(a * truth.std, s)  # the flow keeps quantiles
    assert abs(theory + 0.012 * truth.mean * truth.std) < 1e-4
    assert abs(shift(ScaledLinear(), "heun") - theory) < 1e-4
    assert abs(shift(ScaledLinear(), "ddpm")) < 1e-4  # fresh noise makes it forget the start
    assert abs(shift(ScaledLinear("v", zero_terminal_snr=True), "heun")) < 1e-10


def test_ddpm_on_a_brownian_bridge_is_i2sb(monkeypatch) -> None:
    """The posterior of Liu et al. (2023), in the bridge's clock.

    x_r = (r/t)·x_t + (1 − r/t)·target + σ·√(r(t − r)/t)·noise
    """
    path, truth = BrownianBridge(noise_std=0.5), TwoModes()
    found = Case(path, "ddpm", 10, truth).ours(monkeypatch, Numbers(200))
    draw = Numbers(200)
    draw()  # at t = 1 there is no noise to estimate; what is drawn instead has no weight
    x, clock = np.full(200, SOURCE), np.sin(np.pi / 2 * np.linspace(1, 0, 11)) ** 2
    denoise = exact_denoiser(path, truth, SOURCE)
    for i, (t, r) in enumerate(itertools.pairwise(clock)):
        target = denoise(torch.from_numpy(x), 1 - i / 10).x0.numpy()
        x = r / t * x + (1 - r / t) * target
        if r > 0:
            x = x + 0.5 * np.sqrt(r * (t - r) / t) * draw()
    np.testing.assert_allclose(found, x, rtol=0, atol=1e-10)
