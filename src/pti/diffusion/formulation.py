"""Diffusion written once: one formula for x_t, one for what the network learns, and the way back.

Every path between the target's latents (t = 0) and noise or the condition's latents (t = 1) is

    x_t = a(t)·target + b(t)·source + s(t)·noise,        noise ~ N(0, 1), source = the condition's latents,

every network learns o = p(t)·target + m(t)·source + q(t)·noise, and from x_t and o follow target and noise.
With the source known, z_t = x_t − b(t)·source is an ordinary Gaussian diffusion with signal-to-noise ratio
a²/s²: that is why samplers need a, b and s alone, and why one sampler serves diffusion, flows and bridges.

Times and coefficients are float64 on the CPU; what multiplies latents is cast last. They follow from the
configuration alone, so that paths are plain objects: nothing to save, nothing that ``half()`` could round.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Coefficients:
    """The factors of target, source and noise in a sum; float64 tensors of the shape of the times."""

    target: Tensor
    source: Tensor
    noise: Tensor

    def mix(self, target: Tensor, source: Tensor | None, noise: Tensor) -> Tensor:
        """The sum, in the dtype of ``target``; all three (B, …), the coefficients () or (B,)."""
        mixed = cast(self.target, target) * target + cast(self.noise, noise) * noise
        return mixed if source is None else mixed + cast(self.source, source) * source


@dataclass(frozen=True)
class Parameterization:
    """What the network learns, and the way back; float64, well-conditioned wherever there is an answer.

    With z = x_t − b·source and o' = output − m·source: target = A·z + B·o', noise = C·z + E·o'.
    """

    output: Coefficients
    """(p, m, q)"""
    target: tuple[Tensor, Tensor]
    """(A, B)"""
    noise: tuple[Tensor, Tensor]
    """(C, E); both 0 where neither x_t nor the output holds noise: the estimate is then its mean"""


@dataclass(frozen=True)
class Estimate:
    """What the network believes of x_t; each (B, …)."""

    target: Tensor
    noise: Tensor
    source: Tensor | None = None

    @property
    def velocity(self) -> Tensor:
        """d u / dτ = noise − target of the straightened path u = z / (a + s) = (1 − τ)·target + τ·noise.

        τ = s / (a + s) runs from 1 to 0. On a rectified flow from unit noise, u = x_t, τ = t, and this is the
        velocity of Liu et al. (2022, arXiv 2209.03003); every other path is a rescaled one.
        """
        return self.noise - self.target


@dataclass(frozen=True)
class SamplingSchedule:
    """A path at the times of a sampler, from the start down to t = 0: what samplers need; float64."""

    times: tuple[float, ...]
    target: tuple[float, ...]
    source: tuple[float, ...]
    noise: tuple[float, ...]

    @property
    def steps(self) -> int:
        return len(self.times) - 1

    def interpolate_at(self, i: int, estimate: Estimate, noise: float | None = None) -> Tensor:
        """x at time i as the estimate has it; ``noise`` replaces the coefficient s_i."""
        x = self.target[i] * estimate.target + (self.noise[i] if noise is None else noise) * estimate.noise
        return x if estimate.source is None else x + self.source[i] * estimate.source

    def ancestral_std(self, i: int) -> float:
        """ρ of the step from time i to i + 1: how much of the noise there is not known from x at time i.

        ρ² = s_r²·(1 − SNR_t / SNR_r), the variance of q(z_r | z_t, target): β̃ of Ho et al. (2020, eq. 7) on a
        variance-preserving path, σ²·r(t − r)/t on a Brownian bridge (Liu et al. 2023, I²SB).
        """
        a, s, a_next, s_next = self.target[i], self.noise[i], self.target[i + 1], self.noise[i + 1]
        if s == 0:
            return s_next
        return s_next * math.sqrt(max(0.0, 1 - (a * s_next / (s * a_next)) ** 2))

    def log_snr(self, i: int) -> float:
        """λ = log(a / s); −∞ where nothing of the target is left, ∞ at t = 0."""
        if self.target[i] == 0:
            return -math.inf
        return math.inf if self.noise[i] == 0 else math.log(self.target[i] / self.noise[i])


class DiffusionPath(ABC):
    """A way from the target's latents to noise or to the condition's latents.

    ``target`` names what the network learns, one of ``targets``; raises ``ValueError`` for others. Latents
    are (B, …) with unit standard deviation, times (B,) or () in [0, 1].
    """

    targets: ClassVar[tuple[str, ...]]
    needs_source = False

    def __init__(self, target: str) -> None:
        if target not in self.targets:
            fits = ", ".join(self.targets)
            raise ValueError(f"{type(self).__name__} has no network target {target!r}; it has: {fits}")
        self.target = target

    @abstractmethod
    def coefficients(self, t: Tensor) -> Coefficients:
        """a, b and s at the times."""

    @abstractmethod
    def parameterization(self, t: Tensor) -> Parameterization:
        """What the network learns at the times, and the way back."""

    def sampling_times(self, steps: int) -> Tensor:
        """(steps + 1,) float64 from 1 to 0, evenly. Raises ``ValueError`` for fewer than 1 step."""
        if steps < 1:
            raise ValueError(f"sampling takes at least 1 step; found steps={steps}")
        return torch.linspace(1, 0, steps + 1, dtype=torch.float64)

    def training_times(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) float64, evenly distributed; drawn on the CPU, with a generator there."""
        return torch.rand(count, generator=generator, dtype=torch.float64)

    def timesteps(self, t: Tensor) -> Tensor:
        """What the network is told, float32 in [0, 1000]: the range that time embeddings are made for."""
        return (1000 * t).float()

    def interpolate(self, target: Tensor, noise: Tensor, t: Tensor, source: Tensor | None = None) -> Tensor:
        """x_t. Raises ``ValueError`` when the path needs a source and none is given."""
        return self.coefficients(t).mix(target, self._source(source), noise)

    def network_target(
        self, target: Tensor, noise: Tensor, t: Tensor, source: Tensor | None = None
    ) -> Tensor:
        """What the network should answer to x_t."""
        return self.parameterization(t).output.mix(target, self._source(source), noise)

    def estimate(self, output: Tensor, x_t: Tensor, t: Tensor, source: Tensor | None = None) -> Estimate:
        """The network's output, turned into target and noise, in the dtype of ``x_t``."""
        source = self._source(source)
        back = self.parameterization(t)
        z, output = x_t, output.to(x_t.dtype)
        if source is not None:
            z = z - cast(self.coefficients(t).source, z) * source
            output = output - cast(back.output.source, z) * source
        target, noise = (
            cast(of_z, z) * z + cast(of_o, z) * output for of_z, of_o in (back.target, back.noise)
        )
        return Estimate(target, noise, source)

    def start(self, noise: Tensor, source: Tensor | None = None) -> Tensor:
        """x at t = 1. What is left of the target there, unknown, is replaced by noise of its variance, 1."""
        at = self.coefficients(torch.ones((), dtype=torch.float64))
        none_left = torch.zeros_like(at.target)
        return Coefficients(none_left, at.source, torch.hypot(at.target, at.noise)).mix(
            torch.zeros_like(noise), self._source(source), noise
        )

    def schedule(self, times: Tensor) -> SamplingSchedule:
        """The coefficients at a sampler's times, which fall strictly within [0, 1] and end at 0."""
        if len(times) < 2 or times[-1] != 0 or times[0] > 1 or (times.diff() >= 0).any():
            raise ValueError(f"a sampler's times fall from at most 1 to exactly 0; found {times.tolist()}")
        at = self.coefficients(times)
        columns = (times, at.target, at.source, at.noise)
        return SamplingSchedule(*(tuple(column.tolist()) for column in columns))

    def _source(self, source: Tensor | None) -> Tensor | None:
        if self.needs_source and source is None:
            raise ValueError(f"{type(self).__name__} starts from the condition's latents; found source=None")
        return source if self.needs_source else None


def sample_parameterization(at: Coefficients, minus_source: bool = False) -> Parameterization:
    """The network answers with the target itself, on any path; or with target − source."""
    zero, one = torch.zeros_like(at.target), torch.ones_like(at.target)
    noise = divide(one, at.noise), -divide(at.target, at.noise)
    return Parameterization(Coefficients(one, -one if minus_source else zero, zero), (zero, one), noise)


def min_snr_weight(path: DiffusionPath, t: Tensor, gamma: float = 5.0) -> Tensor:
    """The weight of each sample's squared error, float64 of the shape of ``t``.

    min(SNR, γ) for the error of the target (Hang et al. 2023, arXiv 2303.09556), which is B² times the error
    of the output: min(SNR, γ) for ``sample``, that / SNR for ``epsilon``, / (SNR + 1) for ``v``; on other
    paths the same rule. 0 where SNR is 0: at the very start of most paths.
    """
    at = path.coefficients(t)
    snr = (at.target / at.noise).square().nan_to_num(nan=0.0)
    return snr.clamp(max=gamma) * path.parameterization(t).target[1].square()


def divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient, and 0 where the denominator is 0."""
    return torch.where(denominator == 0, 0.0, numerator / torch.where(denominator == 0, 1.0, denominator))


def cast(coefficient: Tensor, latents: Tensor) -> Tensor:
    """A coefficient, () or (B,), in dtype, device and dimensions of latents (B, …)."""
    moved = coefficient.to(latents.device, latents.dtype)
    return moved.reshape(moved.shape + (1,) * (latents.dim() - 1)) if moved.dim() else moved
