"""Samplers: pure functions ``(denoise, start, schedule, generator) -> latents`` of 1 or more steps.

``denoise(x, t)`` estimates x0 and noise from x at time t (float in (0, 1]); ``start`` (B, …) is x at the
schedule's first time; the result is x at t = 0. ``generator`` is one ``torch.Generator`` for the whole batch,
or a sequence of B, one for each sample, whose noise then does not depend on the rest of the batch.
``progress(step, x, estimate)`` is called after each step, counted from 1, with the x after the step and the
estimate before it. Each step evaluates the network once, Heun's twice; `first_step` takes a single step.

In the formulas, a and s hold at the start of a step (time t), a_r and s_r at its end (time r); b·source is
added throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from pti.common.transfer import to_device
from pti.diffusion.formulation import DiffusionPath, Estimate, SamplingSchedule

Denoise = Callable[[Tensor, float], Estimate]
Network = Callable[[Tensor, Tensor], Tensor]
Generator = torch.Generator | Sequence[torch.Generator]
Progress = Callable[[int, Tensor, Estimate], None] | None


class Sampler(Protocol):
    """A function of this module with its options bound, as `sample` takes it."""

    def __call__(
        self,
        denoise: Denoise,
        start: Tensor,
        schedule: SamplingSchedule,
        generator: Generator,
        progress: Progress = None,
    ) -> Tensor:
        """Return x at t = 0."""
        ...


def ddpm(
    denoise: Denoise,
    start: Tensor,
    schedule: SamplingSchedule,
    generator: Generator,
    progress: Progress = None,
    *,
    clip: float | None = None,
) -> Tensor:
    """Draw from q(x_r | x_t, x0) with x0 estimated: ancestral sampling (Ho et al. 2020, algorithm 2).

    On a Brownian bridge, this is the sampler of I²SB and BBDM.

    Args:
        denoise: estimates x0 and noise.
        start: (B, …), x at the schedule's first time.
        schedule: the path's coefficients at the sampling times.
        generator: of all noise.
        progress: called after each step.
        clip: largest absolute value of the estimates of x0, as schedulers for images have it: latents of
            standard deviation 1 lose what lies outside; None = no limit.
    """
    if clip is not None:
        denoise = _clipped(denoise, schedule, clip)
    return ddim(denoise, start, schedule, generator, progress, eta=1.0)


def ddim(
    denoise: Denoise,
    start: Tensor,
    schedule: SamplingSchedule,
    generator: Generator,
    progress: Progress = None,
    *,
    eta: float = 0.0,
) -> Tensor:
    """Step to x_r = a_r·x0 + √(s_r² − η²ρ²)·noise + η·ρ·fresh noise (Song et al. 2021, 2010.02502, eq. 12).

    Args:
        denoise: estimates x0 and noise.
        start: (B, …), x at the schedule's first time.
        schedule: the path's coefficients at the sampling times.
        generator: of all noise.
        progress: called after each step.
        eta: from 0 (deterministic) to 1 (`ddpm`); others raise ``ValueError``.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta={eta}: expected a number from 0 (deterministic) to 1 (ancestral)")
    x = start
    for i in range(schedule.steps):
        estimate = _estimate(denoise, x, schedule, i, generator)
        fresh = eta * schedule.ancestral_std(i)
        if fresh == 0:
            x = schedule.interpolate_at(i + 1, estimate)
        else:
            kept = math.sqrt(max(0.0, schedule.noise[i + 1] ** 2 - fresh**2))
            x = schedule.interpolate_at(i + 1, estimate, kept) + fresh * gaussian_noise(x, generator)
        _report(progress, i, x, estimate)
    return x


def euler(
    denoise: Denoise,
    start: Tensor,
    schedule: SamplingSchedule,
    generator: Generator,
    progress: Progress = None,
) -> Tensor:
    """Take Euler's steps along the velocity of the straightened path: u_r = u + (τ_r − τ)·velocity.

    On a rectified flow x_r = x + (r − t)·velocity. u lies on the line through the estimated x0 and noise, so
    on every path the step ends at a_r·x0 + s_r·noise: `ddim` with η = 0.
    """
    return ddim(denoise, start, schedule, generator, progress, eta=0.0)


def first_step(
    denoise: Denoise,
    start: Tensor,
    schedule: SamplingSchedule,
    generator: Generator,
    progress: Progress = None,
) -> Tensor:
    """Return the first estimate of x0, the mean given the condition, by one evaluation whatever ``steps`` is.

    The start of a path holds (almost) nothing of x0, and a network that minimises the squared error predicts
    a mean there: "regression sampling" of Rassmann et al. (2025, arXiv 2505.02048). Samples of one condition
    hardly differ.
    """
    del generator
    estimate = denoise(start, schedule.times[0])
    _report(progress, 0, estimate.x0, estimate)
    return estimate.x0


def heun(
    denoise: Denoise,
    start: Tensor,
    schedule: SamplingSchedule,
    generator: Generator,
    progress: Progress = None,
) -> Tensor:
    """Take Heun's second-order steps on the straightened path, with the mean of both ends' velocities.

    The last step is Euler's, as in Karras et al. (2022, arXiv 2206.00364, algorithm 1), because networks are
    not evaluated at t = 0. 2·steps − 1 evaluations.
    """
    x = start
    for i in range(schedule.steps):
        estimate = _estimate(denoise, x, schedule, i, generator)
        x = schedule.interpolate_at(i + 1, estimate)
        if i + 1 < schedule.steps:
            ahead = denoise(x, schedule.times[i + 1])
            (tau, _), (tau_next, scale) = schedule.straightened(i), schedule.straightened(i + 1)
            x = x + scale * (tau_next - tau) / 2 * (ahead.velocity - estimate.velocity)
        _report(progress, i, x, estimate)
    return x


def dpm_solver(
    denoise: Denoise,
    start: Tensor,
    schedule: SamplingSchedule,
    generator: Generator,
    progress: Progress = None,
) -> Tensor:
    """Take the steps of DPM-Solver++(2M), second order in λ = log(a/s) (Lu et al. 2022, 2211.01095, alg. 2).

    The step of `ddim` with x0 extrapolated by h/(2·h_before) of its last change, where h is the step in λ.
    First order where h or h_before is infinite: the last step, and the second after a start without signal.
    """
    x, before = start, None
    for i in range(schedule.steps):
        estimate = _estimate(denoise, x, schedule, i, generator)
        x = schedule.interpolate_at(i + 1, estimate)
        step = schedule.log_snr(i + 1) - schedule.log_snr(i)
        if before is not None and math.isfinite(step):
            step_before = schedule.log_snr(i) - schedule.log_snr(i - 1)
            # a_r − a·s_r/s: the change of x_r for a unit change of x0 in the step of ddim.
            gain = -schedule.x0[i + 1] * math.expm1(-step)
            x = x + gain * step / (2 * step_before) * (estimate.x0 - before)
        before = estimate.x0
        _report(progress, i, x, estimate)
    return x


def sample(
    path: DiffusionPath,
    network: Network,
    sampler: Sampler,
    steps: int,
    noise: Tensor,
    generator: Generator,
    *,
    source: Tensor | None = None,
    progress: Progress = None,
) -> Tensor:
    """Sample scaled latents (B, …).

    Args:
        path: the path that the network was trained on.
        network: ``(x, timesteps (B,)) -> output``, with the condition and guidance already bound.
        sampler: a function of this module.
        steps: of the sampler; a number that the path does not support raises ``ValueError``.
        noise: (B, …), N(0, 1).
        generator: of further noise.
        source: (B, …), the condition's latents, on a path that needs them.
        progress: called after each step.
    """
    schedule = path.schedule(path.sampling_times(steps))
    return sampler(denoiser(path, network, source), path.start(noise, source), schedule, generator, progress)


def denoiser(path: DiffusionPath, network: Network, source: Tensor | None = None) -> Denoise:
    """Return the function that samplers call, from a network that predicts the path's regression target."""

    def denoise(x: Tensor, time: float) -> Estimate:
        t = torch.tensor(time, dtype=torch.float64)
        # Filled on the device: a copy of one number would wait for all work before it.
        timesteps = torch.full((len(x),), float(path.timesteps(t)), dtype=torch.float32, device=x.device)
        return path.estimate(network(x, timesteps), x, t, source)

    return denoise


def gaussian_noise(like: Tensor, generator: Generator) -> Tensor:
    """Draw N(0, 1) in the shape, dtype and device of ``like`` (B, …), on the generators' device.

    Generators on the CPU give the same noise whatever the device of ``like``.

    Raises:
        ValueError: a sequence of generators does not have one for each sample.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    if isinstance(generator, torch.Generator):
        noise = torch.randn(like.shape, generator=generator, device=generator.device, dtype=dtype)
        return to_device(noise, like.device, like.dtype)
    if len(generator) != len(like):
        raise ValueError(f"one generator for each sample: expected {len(like)}, found {len(generator)}")
    draws = [torch.randn(like.shape[1:], generator=one, device=one.device, dtype=dtype) for one in generator]
    return to_device(torch.stack(draws), like.device, like.dtype)


def _clipped(denoise: Denoise, schedule: SamplingSchedule, clip: float) -> Denoise:
    """Limit the estimates of x0; the noise is then what is left of x."""
    if clip <= 0:
        raise ValueError(f"clip={clip}: expected more than 0, or null")
    index = {time: i for i, time in enumerate(schedule.times)}

    def limited(x: Tensor, time: float) -> Estimate:
        estimate, i = denoise(x, time), index[time]
        x0 = estimate.x0.clamp(-clip, clip)
        rest = x - schedule.x0[i] * x0
        if estimate.source is not None:
            rest = rest - schedule.source[i] * estimate.source
        noise = rest / schedule.noise[i] if schedule.noise[i] else estimate.noise
        return replace(estimate, x0=x0, noise=noise)

    return limited


def _estimate(
    denoise: Denoise, x: Tensor, schedule: SamplingSchedule, i: int, generator: Generator
) -> Estimate:
    estimate = denoise(x, schedule.times[i])
    if schedule.noise[i] == 0:
        # The start of a bridge: x holds no noise to estimate, so the noise that the path adds is drawn here.
        return replace(estimate, noise=gaussian_noise(x, generator))
    return estimate


def _report(progress: Progress, i: int, x: Tensor, estimate: Estimate) -> None:
    if progress is not None:
        progress(i + 1, x, estimate)
