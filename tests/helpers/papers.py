"""The samplers as their papers write them, for w = √ᾱ·target + √(1 − ᾱ)·noise: a path is its ᾱ alone.

w = (x − b·source) / √(a² + s²) turns every path into such a variance-preserving diffusion. The formulas are
written over arrays, one entry a sample, in float64.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from functools import partial

import numpy as np

from pti.diffusion import samplers

Draw = Callable[[], np.ndarray]
Mean = Callable[[np.ndarray, float], np.ndarray]
"""(w, ᾱ) -> E[target | w]"""


def ancestral(mean: Mean, shares: np.ndarray, w: np.ndarray, draw: Draw) -> np.ndarray:
    """Ho et al. (2020), eq. 7, with β = 1 − ᾱ_t / ᾱ_r."""
    for now, then in itertools.pairwise(shares):
        beta, target = 1 - now / then, mean(w, now)
        w = np.sqrt(then) * beta / (1 - now) * target + np.sqrt(1 - beta) * (1 - then) / (1 - now) * w
        if then < 1:
            w = w + np.sqrt((1 - then) / (1 - now) * beta) * draw()
    return w


def implicit(mean: Mean, shares: np.ndarray, w: np.ndarray, draw: Draw, eta: float) -> np.ndarray:
    """Song et al. (2021), eq. 12 and 16."""
    for now, then in itertools.pairwise(shares):
        target = mean(w, now)
        noise = (w - np.sqrt(now) * target) / np.sqrt(1 - now)
        sigma = eta * np.sqrt((1 - then) / (1 - now)) * np.sqrt(1 - now / then)
        w = np.sqrt(then) * target + np.sqrt(max(0, 1 - then - sigma**2)) * noise
        if sigma > 0:
            w = w + sigma * draw()
    return w


def flow_ode(mean: Mean, shares: np.ndarray, w: np.ndarray, draw: Draw, order: int) -> np.ndarray:
    """Euler's or Heun's method for du/dτ = (u − target) / τ, where u = (1 − τ)·target + τ·noise.

    The last step is Euler's.
    """
    del draw
    scale = np.sqrt(shares) + np.sqrt(1 - shares)
    tau = np.sqrt(1 - shares) / scale
    u = w / scale[0]
    for i, step in enumerate(np.diff(tau)):
        slope = (u - mean(u * scale[i], shares[i])) / tau[i]
        ahead = u + step * slope
        if order == 2 and tau[i + 1] > 0:
            slope_ahead = (ahead - mean(ahead * scale[i + 1], shares[i + 1])) / tau[i + 1]
            ahead = u + step * (slope + slope_ahead) / 2
        u = ahead
    return u


def multistep(mean: Mean, shares: np.ndarray, w: np.ndarray, draw: Draw) -> np.ndarray:
    """Lu et al. (2022), algorithm 2, with α = √ᾱ, σ = √(1 − ᾱ), λ = log(α/σ)."""
    del draw
    alpha, sigma = np.sqrt(shares), np.sqrt(1 - shares)
    with np.errstate(divide="ignore"):
        lam = np.log(alpha) - np.log(sigma)
    before = None
    for i, h in enumerate(np.diff(lam)):
        target = data = mean(w, shares[i])
        if before is not None and np.isfinite(h):
            r = (lam[i] - lam[i - 1]) / h
            data = (1 + 1 / (2 * r)) * target - 1 / (2 * r) * before
        w = sigma[i + 1] / sigma[i] * (w - alpha[i] * data) + alpha[i + 1] * data
        before = target
    return w


def regression(mean: Mean, shares: np.ndarray, w: np.ndarray, draw: Draw) -> np.ndarray:
    """Rassmann et al. (2025), regression sampling: the first estimate."""
    del draw
    return mean(w, shares[0])


PAPERS: dict[str, Callable[..., np.ndarray]] = {
    "ddpm": ancestral,
    "ddim": partial(implicit, eta=0.0),
    "ddim_half": partial(implicit, eta=0.5),
    "euler": partial(flow_ode, order=1),
    "heun": partial(flow_ode, order=2),
    "dpm_solver": multistep,
    "first_step": regression,
}
SAMPLERS: dict[str, samplers.Sampler] = {
    name: function
    for name, function in inspect.getmembers(samplers, inspect.isfunction)
    if not name.startswith("_") and next(iter(inspect.signature(function).parameters)) == "denoise"
}
SAMPLERS["ddim_half"] = partial(samplers.ddim, eta=0.5)
STOCHASTIC = ("ddpm", "ddim_half")
ITERATIVE = sorted(SAMPLERS.keys() - {"first_step"})
"""Samplers whose steps approach the distribution."""
