"""A path and a sampler as a table of numbers, for programs without `pti`."""

from __future__ import annotations

import math
from typing import Any

import torch

from pti.common.errors import UsageError
from pti.diffusion import samplers
from pti.diffusion.formulation import DiffusionPath, SamplingSchedule
from pti.diffusion.samplers import Sampler


def sampling_table(path: DiffusionPath, sampler: Sampler, steps: int) -> dict[str, Any]:
    """Describe sampling by numbers, so that one loop serves every path and sampler.

    Each of ``steps`` estimates, from x, the network's ``output`` and the condition's latents ``source``,

        z = x − source_in_x·source,  o = output − source_in_output·source,
        x0 = x0_from[0]·z + x0_from[1]·o,  noise = noise_from[0]·z + noise_from[1]·o,

    or, with ``draws_noise`` (the start of a bridge), draws the noise. The step then goes to

        x0·x0 + source·source + noise·noise + x0_change·(x0 − x0 of the step before) + fresh·N(0, 1),

    by the factors in ``next``, and with ``heun``, adds that times the change of noise − x0 from the
    beginning of the step to its end.

    Args:
        path: the path that the network was trained on.
        sampler: a function of `pti.diffusion.samplers` with its options bound.
        steps: of the sampler.

    Raises:
        UsageError: the sampler can't be described so.
    """
    schedule = path.schedule(path.sampling_times(steps))
    start = path.coefficients(torch.ones((), dtype=torch.float64))
    function: Any = getattr(sampler, "func", sampler)
    name = function.__name__
    count = 1 if name == "first_step" else schedule.steps
    return {
        "sampler": name,
        "start": {"source": float(start.source), "noise": math.hypot(float(start.x0), float(start.noise))},
        "steps": [
            {**_estimate(path, schedule, i), "next": _next(schedule, sampler, i)} for i in range(count)
        ],
    }


def _estimate(path: DiffusionPath, schedule: SamplingSchedule, i: int) -> dict[str, Any]:
    """Return the network's time and the factors of the estimate at the beginning of a step."""
    t = torch.tensor(schedule.times[i], dtype=torch.float64)
    back = path.parameterization(t)
    return {
        "timestep": float(path.timesteps(t)),
        "source_in_x": schedule.source[i] * path.needs_source,
        "source_in_output": float(back.output.source) * path.needs_source,
        "x0_from": [float(factor) for factor in back.x0],
        "noise_from": [float(factor) for factor in back.noise],
        "draws_noise": schedule.noise[i] == 0,
    }


def _next(schedule: SamplingSchedule, sampler: Sampler, i: int) -> dict[str, float]:
    """Return the factors of a step's end, by the formulas of `pti.diffusion.samplers`."""
    function: Any = getattr(sampler, "func", sampler)
    options = getattr(sampler, "keywords", {})
    factors = {"x0": schedule.x0[i + 1], "source": schedule.source[i + 1], "noise": schedule.noise[i + 1]}
    factors |= {"x0_change": 0.0, "fresh": 0.0, "heun": 0.0}
    if function is samplers.first_step:
        return factors | {"x0": 1.0, "source": 0.0, "noise": 0.0}
    if function in (samplers.ddim, samplers.ddpm) and not options.get("clip"):
        eta = 1.0 if function is samplers.ddpm else options.get("eta", 0.0)
        fresh = eta * schedule.ancestral_std(i)
        kept = math.sqrt(max(0.0, schedule.noise[i + 1] ** 2 - fresh**2)) if fresh else factors["noise"]
        return factors | {"noise": kept, "fresh": fresh}
    if function is samplers.euler:
        return factors
    if function is samplers.heun:
        if i + 1 == schedule.steps:
            return factors
        (tau, _), (tau_next, scale) = schedule.straightened(i), schedule.straightened(i + 1)
        return factors | {"heun": scale * (tau_next - tau) / 2}
    if function is samplers.dpm_solver:
        return factors | {"x0_change": _extrapolation(schedule, i)}
    found = f"{function.__name__} with clip" if options.get("clip") else function.__name__
    raise UsageError(
        f"format=onnx: found the sampler {found}, expected ddim, ddpm without clip, dpm_solver, euler, "
        "first_step or heun. Use format=safetensors."
    )


def _extrapolation(schedule: SamplingSchedule, i: int) -> float:
    """Return the factor of the last change of x0 in a step of DPM-Solver++(2M)."""
    step = schedule.log_snr(i + 1) - schedule.log_snr(i)
    if i == 0 or not math.isfinite(step):
        return 0.0
    step_before = schedule.log_snr(i) - schedule.log_snr(i - 1)
    return -schedule.x0[i + 1] * math.expm1(-step) * step / (2 * step_before)
