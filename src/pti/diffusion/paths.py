"""The paths: variance-preserving diffusion, rectified flow, Brownian bridge.

``ScaledLinear`` is the common recipe (its start is not quite noise: see there). ``RectifiedFlow`` is the
simplest. ``RectifiedFlow(start="condition")`` and ``BrownianBridge`` start from the condition's latents, so
that what stands in both images need not be invented again.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pti.diffusion.formulation import (
    Coefficients,
    DiffusionPath,
    Parameterization,
    divide,
    sample_parameterization,
)


class VariancePreserving(DiffusionPath):
    """a² + s² = 1 in discrete steps: a_k² = Π_{i ≤ k} (1 − β_i) at t = k/T (Ho et al. 2020, eq. 4).

    The network learns ``epsilon`` (the noise), ``v`` = a·noise − s·target (Salimans & Ho 2022, appendix D) or
    ``sample`` (the target). ``betas`` are (T,) in (0, 1). ``zero_terminal_snr`` shifts and scales a so that
    nothing of the target is left at t = 1 (Lin et al. 2024, algorithm 1); without it, sampling starts from
    noise that training never saw. ``spacing`` of the sampling steps is ``even``, or ``quadratic``: finer
    towards t = 0 (Song et al. 2021, appendix D.2). Raises ``ValueError`` for ``epsilon`` where a(1) < 0.001:
    the target's estimate is (x_t − s·epsilon) / a, and any error is multiplied by s / a.
    """

    targets = ("epsilon", "v", "sample")

    def __init__(self, betas: Tensor, target: str, zero_terminal_snr: bool, spacing: str) -> None:
        super().__init__(target)
        if spacing not in ("even", "quadratic"):
            raise ValueError(f"sampling steps are even or quadratic; found spacing={spacing!r}")
        a = torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas.double()).log().cumsum(0).div(2).exp()])
        if zero_terminal_snr:
            a[1:] = (a[1:] - a[-1]) * a[1] / (a[1] - a[-1])
        if target == "epsilon" and a[-1] < 0.001:
            raise ValueError(f"epsilon has no answer where a(1) = {float(a[-1]):.2g}; take v or sample")
        self.steps, self.quadratic = len(betas), spacing == "quadratic"
        self.a, self.s = a, (1 - a.square()).sqrt()

    def _index(self, t: Tensor) -> Tensor:
        index = t * self.steps
        rounded = index.round()
        if (rounded - index).abs().max() > 1e-6 or rounded.min() < 0 or rounded.max() > self.steps:
            raise ValueError(f"the times of this path are k/{self.steps}; found {t.tolist()}")
        return rounded.long()

    def coefficients(self, t: Tensor) -> Coefficients:
        index = self._index(t)
        return Coefficients(self.a[index], torch.zeros_like(self.a[index]), self.s[index])

    def parameterization(self, t: Tensor) -> Parameterization:
        at = self.coefficients(t)
        a, s, zero = at.target, at.noise, at.source
        if self.target == "epsilon":
            one = torch.ones_like(a)
            return Parameterization(Coefficients(zero, zero, one), (1 / a, -s / a), (zero, one))
        if self.target == "v":
            return Parameterization(Coefficients(-s, zero, a), (a, -s), (s, a))
        return sample_parameterization(at)

    def sampling_times(self, steps: int) -> Tensor:
        """From 1 to 0 in whole steps of the path; ``even`` is "trailing" of Lin et al. (2024, table 2)."""
        if steps > self.steps:
            raise ValueError(f"this path has {self.steps} steps; found steps={steps}")
        times = super().sampling_times(steps)
        index = ((times.square() if self.quadratic else times) * self.steps).round()
        # No time twice: where squares are less than a step apart, one step each.
        return index.maximum(torch.arange(steps, -1, -1)) / self.steps

    def training_times(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) float64, each of 1/T … 1 equally likely."""
        return torch.randint(1, self.steps + 1, (count,), generator=generator).double() / self.steps

    def timesteps(self, t: Tensor) -> Tensor:
        """0 … T − 1, as networks trained elsewhere count them."""
        return (self._index(t) - 1).float()


class ScaledLinear(VariancePreserving):
    """√β rises evenly from √beta_start to √beta_end (Rombach et al. 2022).

    With the defaults a(1) = 0.012. Deterministic samplers carry that to the end: a target whose mean is μ
    and whose standard deviation is σ comes out shifted by about −0.012·μ·σ, however many the steps.
    s grows as √t, too steep at t = 0 for ``even`` steps: second-order samplers then lose their order.
    With ``quadratic`` ones their error is a third at 10 steps and a tenth at 20.
    """

    def __init__(
        self,
        target: str = "epsilon",
        beta_start: float = 0.0015,
        beta_end: float = 0.0195,
        steps: int = 1000,
        zero_terminal_snr: bool = False,
        spacing: str = "quadratic",
    ) -> None:
        roots = torch.linspace(math.sqrt(beta_start), math.sqrt(beta_end), steps, dtype=torch.float64)
        super().__init__(roots.square(), target, zero_terminal_snr, spacing)


class Cosine(VariancePreserving):
    """a_k follows a cosine, β clipped at 0.999 (Nichol & Dhariwal 2021, eq. 17)."""

    def __init__(
        self,
        target: str = "v",
        offset: float = 0.008,
        steps: int = 1000,
        zero_terminal_snr: bool = False,
        spacing: str = "even",
    ) -> None:
        share = torch.arange(steps + 1, dtype=torch.float64) / steps
        a = torch.cos((share + offset) / (1 + offset) * (math.pi / 2))
        super().__init__((1 - (a[1:] / a[:-1]).square()).clamp(max=0.999), target, zero_terminal_snr, spacing)


class RectifiedFlow(DiffusionPath):
    """Straight lines: x_t = (1 − t)·target + t·(source + noise_std·noise) (Liu et al. 2022, 2209.03003).

    ``start`` is ``noise`` (no source) or ``condition``. With the condition, noise at the start lets even a
    deterministic sampler draw many answers to one condition, and the velocity is finite at both ends
    (Albergo et al. 2024, data-dependent couplings, arXiv 2310.03725). ``noise_std`` > 0, in standard
    deviations of the latents: 1 from noise, about 0.3 to 1 from the condition; without noise the flow could
    only give the mean, as a regression does. The network learns ``velocity`` = dx_t/dt, ``sample``, or from
    the condition also ``change`` = target − source: 0 wherever nothing changes, at every time.
    ``times`` of training are ``uniform``, ``logit_normal`` (sigmoid of N(0, 1); Esser et al. 2024) or
    ``quadratic``: t = 1 − u², u uniform. ``spacing`` of the sampling steps is ``even`` or ``quadratic``, by
    the same rule. From the condition with little noise, the outcome is decided close to t = 1, as soon as the
    signal (1 − t)·(target − source) outgrows the noise t·noise_std: there ``quadratic`` looks more often.
    """

    targets = ("velocity", "sample", "change")

    def __init__(
        self,
        target: str = "velocity",
        start: str = "noise",
        noise_std: float = 1.0,
        times: str = "uniform",
        spacing: str = "even",
    ) -> None:
        super().__init__(target)
        if target == "change" and start == "noise":
            raise ValueError("a flow that starts from noise has no target 'change'; take velocity or sample")
        if start not in ("noise", "condition"):
            raise ValueError(f"a flow starts from noise or condition; found start={start!r}")
        if times not in ("uniform", "logit_normal", "quadratic"):
            raise ValueError(f"training times are uniform, logit_normal or quadratic; found times={times!r}")
        if spacing not in ("even", "quadratic"):
            raise ValueError(f"sampling steps are even or quadratic; found spacing={spacing!r}")
        self.noise_std = positive(noise_std)
        self.needs_source = start == "condition"
        self.times, self.quadratic = times, spacing == "quadratic"

    def coefficients(self, t: Tensor) -> Coefficients:
        return Coefficients(1 - t, t * self.needs_source, t * self.noise_std)

    def parameterization(self, t: Tensor) -> Parameterization:
        if self.target != "velocity":
            return sample_parameterization(self.coefficients(t), minus_source=self.target == "change")
        one, std = torch.ones_like(t), self.noise_std
        return Parameterization(
            output=Coefficients(-one, one * self.needs_source, one * std),
            target=(one, -t),
            noise=(one / std, (1 - t) / std),
        )

    def training_times(self, count: int, generator: torch.Generator) -> Tensor:
        if self.times == "logit_normal":
            return torch.randn(count, generator=generator, dtype=torch.float64).sigmoid()
        uniform = super().training_times(count, generator)
        return 1 - uniform.square() if self.times == "quadratic" else uniform

    def sampling_times(self, steps: int) -> Tensor:
        """(steps + 1,) float64 from 1 to 0, evenly, or finer towards 1."""
        even = super().sampling_times(steps)
        return 1 - (1 - even).square() if self.quadratic else even


class BrownianBridge(DiffusionPath):
    """A Brownian bridge between the target and the condition's latents, exactly the condition's at t = 1.

    x_t = (1 − c)·target + c·source + noise_std·√(c(1 − c))·noise with the clock c = sin²(πt/2): the bridge of
    BBDM (Li et al. 2023, arXiv 2205.07680), I²SB (Liu et al. 2023, arXiv 2302.05872) and LBM (Chadebec et al.
    2025, arXiv 2503.07535). In that clock all coefficients are smooth in t, and even steps resolve both ends,
    where √(c(1 − c)) is steep. The network learns ``residual`` = (x_t − target) / √c (as I²SB does), of order
    1 at every time, ``sample``, or ``change`` = target − source; target = x_t − √c·residual is exact at both
    ends.

    There is no noise at t = 1, so the first step of every sampler, deterministic ones too, draws some: the
    "booting noise" of DBIM (Zheng et al. 2025, arXiv 2405.15885). ``noise_std`` > 0, in standard deviations
    of the latents, about 0.3 to 1.
    """

    targets = ("residual", "sample", "change")
    needs_source = True

    def __init__(self, target: str = "residual", noise_std: float = 0.5) -> None:
        super().__init__(target)
        self.noise_std = positive(noise_std)

    def coefficients(self, t: Tensor) -> Coefficients:
        sine, cosine = _sine_and_cosine(t)
        return Coefficients(cosine.square(), sine.square(), self.noise_std * sine * cosine)

    def parameterization(self, t: Tensor) -> Parameterization:
        if self.target != "residual":
            return sample_parameterization(self.coefficients(t), minus_source=self.target == "change")
        (sine, cosine), std = _sine_and_cosine(t), self.noise_std
        return Parameterization(
            output=Coefficients(-sine, sine, std * cosine),
            target=(torch.ones_like(t), -sine),
            noise=(divide(sine, std * cosine), cosine / std),
        )


def _sine_and_cosine(t: Tensor) -> tuple[Tensor, Tensor]:
    """Of πt/2, exactly 0 and 1 at both ends."""
    return torch.sin(t * (math.pi / 2)), torch.sin((1 - t) * (math.pi / 2))


def positive(noise_std: float) -> float:
    """The number itself; raises ``ValueError`` unless it is greater than 0."""
    if not noise_std > 0:
        raise ValueError(
            f"noise_std must be greater than 0 (without noise, train a regression); found {noise_std}"
        )
    return noise_std
