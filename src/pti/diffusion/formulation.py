"""One formulation of diffusion, flows and bridges: x_t, the regression target, and the way back to x0.

Every path between x0 (the latents of the image to generate, at t = 0) and noise or the condition's latents
(at t = 1) is

    x_t = a(t)·x0 + b(t)·source + s(t)·noise,        noise ~ N(0, 1), source = the condition's latents.

Every network learns o = p(t)·x0 + m(t)·source + q(t)·noise, and x0 and noise follow from x_t and o. With
the source known, z_t = x_t − b(t)·source is an ordinary Gaussian diffusion of signal-to-noise ratio a²/s².
Samplers therefore need a, b and s alone, and the same sampler serves diffusion, flows and bridges.

Times and coefficients are float64 on the CPU; they get the latents' dtype and device last. They
follow from the configuration alone, so a path is a plain object without state in the checkpoint.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pti.common.transfer import to_device


@dataclass(frozen=True)
class Coefficients:
    """The factors of x0, source and noise in a sum; float64 tensors of the shape of the times."""

    x0: Tensor
    source: Tensor
    noise: Tensor

    def mix(self, x0: Tensor, source: Tensor | None, noise: Tensor) -> Tensor:
        """Return the sum in the dtype of ``x0``; latents are (B, …), coefficients () or (B,)."""
        mixed = cast(self.x0, x0) * x0 + cast(self.noise, noise) * noise
        return mixed if source is None else mixed + cast(self.source, source) * source


@dataclass(frozen=True)
class Parameterization:
    """What the network learns, and the way back; float64, well-conditioned wherever a solution exists.

    With z = x_t − b·source and o' = output − m·source: x0 = A·z + B·o', noise = C·z + E·o'.
    """

    output: Coefficients
    """(p, m, q)"""
    x0: tuple[Tensor, Tensor]
    """(A, B)"""
    noise: tuple[Tensor, Tensor]
    """(C, E); both 0 where neither x_t nor the output holds noise: the estimate is then its mean."""


@dataclass(frozen=True)
class TrainingPair:
    """A point on a path, and what the network should predict there.

    Attributes:
        x_t: (B, …), the network's input.
        timesteps: (B,) float32, the time as the network takes it.
        target: (B, …), the regression target, of the path's ``prediction_type``.
    """

    x_t: Tensor
    timesteps: Tensor
    target: Tensor


@dataclass(frozen=True)
class Estimate:
    """The network's estimate of the ends of the path through x_t; each (B, …)."""

    x0: Tensor
    noise: Tensor
    source: Tensor | None = None

    @property
    def velocity(self) -> Tensor:
        """Velocity d u / dτ = noise − x0 of the straightened path u = z / (a + s) = (1 − τ)·x0 + τ·noise.

        τ = s / (a + s) runs from 1 to 0. On a rectified flow from unit noise, u = x_t, τ = t, and this is the
        velocity of Liu et al. (2022, arXiv 2209.03003); every other path is a rescaled one.
        """
        return self.noise - self.x0


@dataclass(frozen=True)
class SamplingSchedule:
    """A path's coefficients at the times of a sampler, from the start down to t = 0; float64."""

    times: tuple[float, ...]
    x0: tuple[float, ...]
    source: tuple[float, ...]
    noise: tuple[float, ...]

    @property
    def steps(self) -> int:
        """Number of sampling steps."""
        return len(self.times) - 1

    def interpolate_at(self, i: int, estimate: Estimate, noise: float | None = None) -> Tensor:
        """Return x at time i from an estimate; ``noise`` replaces the coefficient s_i."""
        x = self.x0[i] * estimate.x0 + (self.noise[i] if noise is None else noise) * estimate.noise
        return x if estimate.source is None else x + self.source[i] * estimate.source

    def ancestral_std(self, i: int) -> float:
        """Return ρ of the step from time i to i + 1: the noise there that x at time i does not determine.

        ρ² = s_r²·(1 − SNR_t / SNR_r), the variance of q(z_r | z_t, x0): β̃ of Ho et al. (2020, eq. 7) on a
        variance-preserving path, σ²·r(t − r)/t on a Brownian bridge (Liu et al. 2023, I²SB).
        """
        a, s, a_next, s_next = self.x0[i], self.noise[i], self.x0[i + 1], self.noise[i + 1]
        if s == 0:
            return s_next
        return s_next * math.sqrt(max(0.0, 1 - (a * s_next / (s * a_next)) ** 2))

    def log_snr(self, i: int) -> float:
        """Return λ = log(a / s); −∞ where x_t holds nothing of x0, ∞ at t = 0."""
        if self.x0[i] == 0:
            return -math.inf
        return math.inf if self.noise[i] == 0 else math.log(self.x0[i] / self.noise[i])

    def straightened(self, i: int) -> tuple[float, float]:
        """Return τ = s / (a + s) and the scale a + s; τ = 1 where both are 0, the start of a bridge."""
        scale = self.x0[i] + self.noise[i]
        return (self.noise[i] / scale if scale else 1.0), scale


class DiffusionPath(ABC):
    """A path from x0 (t = 0) to noise or to the condition's latents (t = 1).

    Latents are (B, …) with unit standard deviation, times (B,) or () in [0, 1].

    Args:
        prediction_type: what the network learns, one of ``prediction_types``; others raise ``ValueError``.
    """

    prediction_types: ClassVar[tuple[str, ...]]
    needs_source = False

    def __init__(self, prediction_type: str) -> None:
        if prediction_type not in self.prediction_types:
            raise ValueError(
                f"prediction_type={prediction_type!r}: {type(self).__name__} supports "
                f"{', '.join(self.prediction_types)}"
            )
        self.prediction_type = prediction_type

    @abstractmethod
    def coefficients(self, t: Tensor) -> Coefficients:
        """Return a, b and s at the times."""

    @abstractmethod
    def parameterization(self, t: Tensor) -> Parameterization:
        """Return what the network learns at the times, and the way back."""

    def sampling_times(self, steps: int) -> Tensor:
        """Return (steps + 1,) float64 times from 1 to 0, evenly spaced.

        Raises:
            ValueError: ``steps`` is less than 1.
        """
        if steps < 1:
            raise ValueError(f"sampling takes at least 1 step; found steps={steps}")
        return torch.linspace(1, 0, steps + 1, dtype=torch.float64)

    def training_times(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw (count,) float64 times from the uniform distribution, on the CPU with a CPU generator."""
        return torch.rand(count, generator=generator, dtype=torch.float64)

    def timesteps(self, t: Tensor) -> Tensor:
        """Return the network's time input, float32 in [0, 1000]: the range of its time embedding."""
        return (1000 * t).float()

    def training_pair(
        self, x0: Tensor, noise: Tensor, t: Tensor, source: Tensor | None = None
    ) -> TrainingPair:
        """Return x_t, its timesteps and the regression target; moves the coefficients to the device once.

        Args:
            x0: (B, …).
            noise: (B, …), N(0, 1).
            t: (B,) or () float64 on the CPU.
            source: (B, …), the condition's latents.

        Raises:
            ValueError: the path needs a source and none is given.
        """
        source = self._source(source)
        at, output = self.coefficients(t), self.parameterization(t).output
        rows = (*_rows(at), *_rows(output), self.timesteps(t).double())
        wide = torch.promote_types(x0.dtype, torch.float32)
        *factors, timesteps = to_device(torch.stack(rows), x0.device, wide).unbind()
        x_t = Coefficients(*factors[:3]).mix(x0, source, noise)
        target = Coefficients(*factors[3:]).mix(x0, source, noise)
        return TrainingPair(x_t, timesteps.float(), target)

    def estimate(self, output: Tensor, x_t: Tensor, t: Tensor, source: Tensor | None = None) -> Estimate:
        """Turn the network's output into estimates of x0 and noise, in the dtype of ``x_t``."""
        source = self._source(source)
        back = self.parameterization(t)
        z, output = x_t, output.to(x_t.dtype)
        if source is not None:
            z = z - cast(self.coefficients(t).source, z) * source
            output = output - cast(back.output.source, z) * source
        x0, noise = (cast(of_z, z) * z + cast(of_o, z) * output for of_z, of_o in (back.x0, back.noise))
        return Estimate(x0, noise, source)

    def start(self, noise: Tensor, source: Tensor | None = None) -> Tensor:
        """Return x at t = 1, where what is left of the unknown x0 is replaced by noise of its variance, 1."""
        at = self.coefficients(torch.ones((), dtype=torch.float64))
        start = Coefficients(torch.zeros_like(at.x0), at.source, torch.hypot(at.x0, at.noise))
        return start.mix(torch.zeros_like(noise), self._source(source), noise)

    def schedule(self, times: Tensor) -> SamplingSchedule:
        """Return the coefficients at a sampler's times.

        Raises:
            ValueError: the times do not fall strictly from at most 1 to exactly 0.
        """
        if len(times) < 2 or times[-1] != 0 or times[0] > 1 or (times.diff() >= 0).any():
            raise ValueError(f"a sampler's times fall from at most 1 to exactly 0; found {times.tolist()}")
        columns = (times, *_rows(self.coefficients(times)))
        return SamplingSchedule(*(tuple(column.tolist()) for column in columns))

    def _source(self, source: Tensor | None) -> Tensor | None:
        if self.needs_source and source is None:
            raise ValueError(f"{type(self).__name__} starts from the condition's latents; found source=None")
        return source if self.needs_source else None


def sample_parameterization(at: Coefficients, minus_source: bool = False) -> Parameterization:
    """Parameterize any path by x0 itself, or by the change x0 − source."""
    zero, one = torch.zeros_like(at.x0), torch.ones_like(at.x0)
    noise = divide(one, at.noise), -divide(at.x0, at.noise)
    return Parameterization(Coefficients(one, -one if minus_source else zero, zero), (zero, one), noise)


def min_snr_weight(path: DiffusionPath, t: Tensor, gamma: float = 5.0) -> Tensor:
    """Return the weight of each sample's squared error, float64 of the shape of ``t``.

    min(SNR, γ) for the error of x0 (Hang et al. 2023, arXiv 2303.09556), which is B² times the error of the
    output: min(SNR, γ) for ``sample``, that / SNR for ``epsilon``, / (SNR + 1) for ``v``; on other paths the
    same rule. 0 where SNR is 0: at the very start of most paths.
    """
    at = path.coefficients(t)
    snr = (at.x0 / at.noise).square().nan_to_num(nan=0.0)
    return snr.clamp(max=gamma) * path.parameterization(t).x0[1].square()


def divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return the quotient, and 0 where the denominator is 0."""
    return torch.where(denominator == 0, 0.0, numerator / torch.where(denominator == 0, 1.0, denominator))


def cast(coefficient: Tensor, latents: Tensor) -> Tensor:
    """Return a coefficient, () or (B,), in dtype, device and dimensions of latents (B, …).

    A single number stays on the CPU: kernels of all devices take it as an argument, without a copy.
    """
    if not coefficient.dim():
        return coefficient.to(latents.dtype)
    moved = to_device(coefficient, latents.device, latents.dtype)
    return moved.reshape(moved.shape + (1,) * (latents.dim() - 1))


def _rows(coefficients: Coefficients) -> tuple[Tensor, Tensor, Tensor]:
    return coefficients.x0, coefficients.source, coefficients.noise
