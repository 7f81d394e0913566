"""Paths: variance-preserving diffusion, rectified flow, Brownian bridge.

``ScaledLinear`` is the common recipe (its start is not pure noise: see its docstring). ``RectifiedFlow`` is
the simplest. ``RectifiedFlow(start="condition")`` and ``BrownianBridge`` start from the condition's latents,
so that the model only has to generate the difference between the two images.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from typing_extensions import override

from pti.diffusion.formulation import (
    Coefficients,
    DiffusionPath,
    Parameterization,
    divide,
    sample_parameterization,
)


class VariancePreserving(DiffusionPath):
    """Diffusion with a² + s² = 1 in discrete steps: a_k² = Π_{i ≤ k} (1 − β_i) at t = k/T.

    Ho et al. (2020), eq. 4.

    Args:
        betas: (T,) in (0, 1).
        prediction_type: ``epsilon`` (the noise), ``v`` = a·noise − s·x0 (Salimans & Ho 2022, appendix D) or
            ``sample`` (x0). ``epsilon`` raises ``ValueError`` where a(1) < 0.001: the estimate of x0 is
            (x_t − s·epsilon) / a, and every error is multiplied by s / a.
        zero_terminal_snr: shift and scale a so that x_t holds nothing of x0 at t = 1 (Lin et al. 2024,
            algorithm 1); without it, sampling starts from noise that training never saw.
        spacing: of the sampling steps: ``even``, or ``quadratic``: finer towards t = 0 (Song et al. 2021,
            appendix D.2).
    """

    prediction_types = ("epsilon", "v", "sample")

    def __init__(self, betas: Tensor, prediction_type: str, zero_terminal_snr: bool, spacing: str) -> None:
        super().__init__(prediction_type)
        _require_one_of("spacing", spacing, ("even", "quadratic"))
        a = torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas.double()).log().cumsum(0).div(2).exp()])
        if zero_terminal_snr:
            a[1:] = (a[1:] - a[-1]) * a[1] / (a[1] - a[-1])
        if prediction_type == "epsilon" and a[-1] < 0.001:
            raise ValueError(
                f"prediction_type='epsilon' determines no x0 where a(1) = {float(a[-1]):.2g}; "
                "choose v or sample"
            )
        self.steps, self.quadratic = len(betas), spacing == "quadratic"
        self.a, self.s = a, (1 - a.square()).sqrt()

    def _index(self, t: Tensor) -> Tensor:
        index = t * self.steps
        rounded = index.round()
        if (rounded - index).abs().max() > 1e-6 or rounded.min() < 0 or rounded.max() > self.steps:
            raise ValueError(f"the times of this path are k/{self.steps}; found {t.tolist()}")
        return rounded.long()

    @override
    def coefficients(self, t: Tensor) -> Coefficients:
        index = self._index(t)
        return Coefficients(self.a[index], torch.zeros_like(self.a[index]), self.s[index])

    @override
    def parameterization(self, t: Tensor) -> Parameterization:
        at = self.coefficients(t)
        a, s, zero = at.x0, at.noise, at.source
        if self.prediction_type == "epsilon":
            one = torch.ones_like(a)
            return Parameterization(Coefficients(zero, zero, one), (1 / a, -s / a), (zero, one))
        if self.prediction_type == "v":
            return Parameterization(Coefficients(-s, zero, a), (a, -s), (s, a))
        return sample_parameterization(at)

    @override
    def sampling_times(self, steps: int) -> Tensor:
        """Return times from 1 to 0 in whole steps; ``even`` is "trailing" of Lin et al. (2024, table 2)."""
        if steps > self.steps:
            raise ValueError(f"this path has {self.steps} steps; found steps={steps}")
        times = super().sampling_times(steps)
        index = ((times.square() if self.quadratic else times) * self.steps).round()
        # Squares less than a step apart would repeat a time: take one step each instead.
        return index.maximum(torch.arange(steps, -1, -1)) / self.steps

    @override
    def training_times(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw (count,) float64 times, each of 1/T … 1 equally likely."""
        return torch.randint(1, self.steps + 1, (count,), generator=generator).double() / self.steps

    @override
    def timesteps(self, t: Tensor) -> Tensor:
        """Return 0 … T − 1, the convention of most pretrained networks."""
        return (self._index(t) - 1).float()


class ScaledLinear(VariancePreserving):
    """Diffusion whose √β rises evenly from √beta_start to √beta_end (Rombach et al. 2022).

    With the defaults a(1) = 0.012. Deterministic samplers carry that to the end: samples of an x0 of mean μ
    and standard deviation σ are shifted by about −0.012·μ·σ, whatever the number of steps. s grows as √t, too
    steeply at t = 0 for ``even`` steps: second-order samplers then lose their order. With ``quadratic`` steps
    their error is a third at 10 steps and a tenth at 20.
    """

    def __init__(
        self,
        prediction_type: str = "epsilon",
        beta_start: float = 0.0015,
        beta_end: float = 0.0195,
        steps: int = 1000,
        zero_terminal_snr: bool = False,
        spacing: str = "quadratic",
    ) -> None:
        roots = torch.linspace(math.sqrt(beta_start), math.sqrt(beta_end), steps, dtype=torch.float64)
        super().__init__(roots.square(), prediction_type, zero_terminal_snr, spacing)


class Cosine(VariancePreserving):
    """Diffusion whose a_k follows a cosine, with β clipped at 0.999 (Nichol & Dhariwal 2021, eq. 17)."""

    def __init__(
        self,
        prediction_type: str = "v",
        offset: float = 0.008,
        steps: int = 1000,
        zero_terminal_snr: bool = False,
        spacing: str = "even",
    ) -> None:
        share = torch.arange(steps + 1, dtype=torch.float64) / steps
        a = torch.cos((share + offset) / (1 + offset) * (math.pi / 2))
        betas = (1 - (a[1:] / a[:-1]).square()).clamp(max=0.999)
        super().__init__(betas, prediction_type, zero_terminal_snr, spacing)


class RectifiedFlow(DiffusionPath):
    """Straight lines: x_t = (1 − t)·x0 + t·(source + noise_std·noise) (Liu et al. 2022, 2209.03003).

    From the condition, noise at the start lets even a deterministic sampler draw different samples for one
    condition, and keeps the velocity finite at both ends (Albergo et al. 2024, data-dependent couplings,
    arXiv 2310.03725). Without noise, the flow could only give the mean, as a regression does.

    Args:
        prediction_type: ``velocity`` = dx_t/dt, ``sample`` (x0), or from the condition also ``change`` =
            x0 − source: 0 wherever nothing changes, at every time.
        start: ``noise`` (no source) or ``condition``.
        noise_std: > 0, in standard deviations of the latents: 1 from noise, 0.3 to 1 from the condition.
        times: of training: ``uniform``, ``logit_normal`` (sigmoid of N(0, 1); Esser et al. 2024) or
            ``quadratic``: t = 1 − u², u uniform. From the condition with little noise, the sample is decided
            close to t = 1, as soon as the signal (1 − t)·(x0 − source) outgrows the noise t·noise_std:
            ``quadratic`` samples that region more densely.
        spacing: of the sampling steps: ``even`` or ``quadratic``, by the same rule.
    """

    prediction_types = ("velocity", "sample", "change")

    def __init__(
        self,
        prediction_type: str = "velocity",
        start: str = "noise",
        noise_std: float = 1.0,
        times: str = "uniform",
        spacing: str = "even",
    ) -> None:
        super().__init__(prediction_type)
        _require_one_of("start", start, ("noise", "condition"))
        _require_one_of("times", times, ("uniform", "logit_normal", "quadratic"))
        _require_one_of("spacing", spacing, ("even", "quadratic"))
        if prediction_type == "change" and start == "noise":
            raise ValueError(
                "prediction_type='change' needs start='condition'; from noise, choose velocity or sample"
            )
        self.noise_std = positive(noise_std)
        self.needs_source = start == "condition"
        self.times, self.quadratic = times, spacing == "quadratic"

    @override
    def coefficients(self, t: Tensor) -> Coefficients:
        return Coefficients(1 - t, t * self.needs_source, t * self.noise_std)

    @override
    def parameterization(self, t: Tensor) -> Parameterization:
        if self.prediction_type != "velocity":
            return sample_parameterization(
                self.coefficients(t), minus_source=self.prediction_type == "change"
            )
        one, std = torch.ones_like(t), self.noise_std
        return Parameterization(
            output=Coefficients(-one, one * self.needs_source, one * std),
            x0=(one, -t),
            noise=(one / std, (1 - t) / std),
        )

    @override
    def training_times(self, count: int, generator: torch.Generator) -> Tensor:
        if self.times == "logit_normal":
            return torch.randn(count, generator=generator, dtype=torch.float64).sigmoid()
        uniform = super().training_times(count, generator)
        return 1 - uniform.square() if self.times == "quadratic" else uniform

    @override
    def sampling_times(self, steps: int) -> Tensor:
        """Return (steps + 1,) float64 times from 1 to 0, evenly spaced or finer towards 1."""
        even = super().sampling_times(steps)
        return 1 - (1 - even).square() if self.quadratic else even


class BrownianBridge(DiffusionPath):
    """A Brownian bridge between x0 and the condition's latents, exactly the condition's at t = 1.

    x_t = (1 − c)·x0 + c·source + noise_std·√(c(1 − c))·noise with the clock c = sin²(πt/2): the bridge of
    BBDM (Li et al. 2023, arXiv 2205.07680), I²SB (Liu et al. 2023, arXiv 2302.05872) and LBM (Chadebec et al.
    2025, arXiv 2503.07535). In that clock all coefficients are smooth in t, and even steps resolve both ends,
    where √(c(1 − c)) is steep.

    x_t holds no noise at t = 1, so the first step of every sampler, deterministic ones too, draws some: the
    "booting noise" of DBIM (Zheng et al. 2025, arXiv 2405.15885).

    Args:
        prediction_type: ``residual`` = (x_t − x0) / √c as in I²SB, of order 1 at every time, with
            x0 = x_t − √c·residual exact at both ends; ``sample`` (x0); or ``change`` = x0 − source.
        noise_std: > 0, in standard deviations of the latents, about 0.3 to 1.
    """

    prediction_types = ("residual", "sample", "change")
    needs_source = True

    def __init__(self, prediction_type: str = "residual", noise_std: float = 0.5) -> None:
        super().__init__(prediction_type)
        self.noise_std = positive(noise_std)

    @override
    def coefficients(self, t: Tensor) -> Coefficients:
        sine, cosine = _sine_and_cosine(t)
        return Coefficients(cosine.square(), sine.square(), self.noise_std * sine * cosine)

    @override
    def parameterization(self, t: Tensor) -> Parameterization:
        if self.prediction_type != "residual":
            return sample_parameterization(
                self.coefficients(t), minus_source=self.prediction_type == "change"
            )
        (sine, cosine), std = _sine_and_cosine(t), self.noise_std
        return Parameterization(
            output=Coefficients(-sine, sine, std * cosine),
            x0=(torch.ones_like(t), -sine),
            noise=(divide(sine, std * cosine), cosine / std),
        )


def _sine_and_cosine(t: Tensor) -> tuple[Tensor, Tensor]:
    """Return sin(πt/2) and cos(πt/2), exactly 0 and 1 at both ends."""
    return torch.sin(t * (math.pi / 2)), torch.sin((1 - t) * (math.pi / 2))


def positive(noise_std: float) -> float:
    """Return the number itself; raise ``ValueError`` unless it is greater than 0."""
    if not noise_std > 0:
        raise ValueError(
            f"noise_std={noise_std}: expected a number greater than 0 (without noise, train a regression)"
        )
    return noise_std


def _require_one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}={value!r}: expected {', '.join(allowed[:-1])} or {allowed[-1]}")
