"""Agreement with the schedulers of diffusers on the same noise and the same network."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from pti.diffusion import samplers
from pti.diffusion.paths import RectifiedFlow, ScaledLinear

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SHAPE = (2, 4, 8, 8)
STEPS = (1, 2, 4, 10, 50)
BETAS: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "timestep_spacing": "trailing",
}


def _network(x: Tensor, timesteps: Tensor) -> Tensor:
    time = timesteps.reshape(-1, *(1,) * (x.dim() - 1)) / 1000
    return x * (0.6 + 0.3 * time) + 0.3 * torch.sin(2 * x - time)


def _theirs(scheduler: Any, noise: Tensor, generator: torch.Generator, **options: Any) -> Tensor:
    x = noise
    for t in scheduler.timesteps:
        output = _network(x, torch.full((len(x),), float(t), dtype=x.dtype))
        x = scheduler.step(output, t, x, generator=generator, **options).prev_sample
    return x


def _compare(scheduler: Any, path: Any, sampler: samplers.Sampler, steps: int, **options: Any) -> None:
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    theirs = _theirs(scheduler, noise, torch.Generator().manual_seed(1), **options)
    ours = samplers.sample(path, _network, sampler, steps, noise, torch.Generator().manual_seed(1))
    assert theirs.abs().max() > 0.1
    # Theirs multiply in float32, and epsilon divides by a(1) = 0.012.
    assert (ours - theirs).abs().max() < 1e-5 * max(1.0, float(theirs.abs().max()))


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(
    ("target", "zero_terminal_snr"),
    [*((target, False) for target in ScaledLinear.prediction_types), ("v", True), ("sample", True)],
)
def test_ddim_and_ddpm(target: str, steps: int, zero_terminal_snr: bool) -> None:
    path = ScaledLinear(target, zero_terminal_snr=zero_terminal_snr, spacing="even")
    settings = {
        **BETAS,
        "prediction_type": {"v": "v_prediction"}.get(target, target),
        "rescale_betas_zero_snr": zero_terminal_snr,
        "clip_sample": False,
    }
    ddim, ddpm = DDIMScheduler(**settings), DDPMScheduler(**settings)
    for scheduler in (ddim, ddpm):
        scheduler.set_timesteps(steps)
    _compare(ddim, path, samplers.ddim, steps)
    _compare(ddpm, path, samplers.ddpm, steps)


@pytest.mark.parametrize("steps", STEPS)
def test_ddim_with_eta(steps: int) -> None:
    scheduler = DDIMScheduler(**BETAS, clip_sample=False)
    scheduler.set_timesteps(steps)
    _compare(scheduler, ScaledLinear(spacing="even"), partial(samplers.ddim, eta=0.5), steps, eta=0.5)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("target", ScaledLinear.prediction_types)
def test_dpm_solver(target: str, steps: int) -> None:
    settings = {**BETAS, "prediction_type": {"v": "v_prediction"}.get(target, target)}
    scheduler = DPMSolverMultistepScheduler(**settings, final_sigmas_type="zero")
    scheduler.set_timesteps(steps)
    _compare(scheduler, ScaledLinear(target, spacing="even"), samplers.dpm_solver, steps)


@pytest.mark.parametrize("steps", STEPS)
def test_flow_matching_euler(steps: int) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps).tolist())
    _compare(scheduler, RectifiedFlow(), samplers.euler, steps)
