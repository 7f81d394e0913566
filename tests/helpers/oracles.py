"""Distributions whose exact denoiser is known; and every path, as the tests meet it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor

from pti.diffusion import paths
from pti.diffusion.formulation import DiffusionPath, Estimate
from pti.diffusion.samplers import Denoise


class Truth(Protocol):
    """A distribution of the target, and w = √ᾱ·target + √(1 − ᾱ)·noise."""

    @property
    def mean(self) -> float: ...

    @property
    def std(self) -> float: ...

    def posterior_mean(self, w: np.ndarray, alpha_bar: float) -> np.ndarray:
        """E[target | w]"""
        ...


@dataclass(frozen=True)
class TwoModes:
    """Two Gaussians of one width, the heavier one to the right."""

    weights: tuple[float, float] = (0.3, 0.7)
    centres: tuple[float, float] = (-1.0, 0.8)
    width: float = 0.3

    @property
    def mean(self) -> float:
        return float(np.dot(self.weights, self.centres))

    @property
    def std(self) -> float:
        return math.sqrt(np.dot(self.weights, np.square(self.centres)) - self.mean**2 + self.width**2)

    def posterior_mean(self, w: np.ndarray, alpha_bar: float) -> np.ndarray:
        root, variance = math.sqrt(alpha_bar), alpha_bar * self.width**2 + 1 - alpha_bar
        offsets = [w - root * centre for centre in self.centres]
        odds = (
            self.weights[0] / self.weights[1] * np.exp((offsets[1] ** 2 - offsets[0] ** 2) / (2 * variance))
        )
        modes = [c + root * self.width**2 / variance * d for c, d in zip(self.centres, offsets, strict=True)]
        return (odds * modes[0] + modes[1]) / (1 + odds)

    def quantiles(self, shares: np.ndarray, alpha_bar: float) -> np.ndarray:
        """Of w."""
        root, std = math.sqrt(alpha_bar), math.sqrt(alpha_bar * self.width**2 + 1 - alpha_bar)
        grid = np.linspace(-8, 8, 20001)
        pairs = zip(self.weights, self.centres, strict=True)
        return np.interp(shares, sum(p * ndtr((grid - root * c) / std) for p, c in pairs), grid)


@dataclass(frozen=True)
class Gaussian:
    mean: float = 1.0
    std: float = 0.5

    def posterior_mean(self, w: np.ndarray, alpha_bar: float) -> np.ndarray:
        root, variance = math.sqrt(alpha_bar), alpha_bar * self.std**2 + 1 - alpha_bar
        return self.mean + root * self.std**2 / variance * (w - root * self.mean)


def signal_shares(path: DiffusionPath, times: Tensor) -> np.ndarray:
    """ᾱ = a² / (a² + s²) at the times; 0 at the start of a bridge, where a and s are 0."""
    at = path.coefficients(times)
    a, s = at.x0.numpy(), at.noise.numpy()
    return a**2 / np.where(a == 0, 1.0, a**2 + s**2)


def start_from(path: DiffusionPath, w: np.ndarray, source: float) -> Tensor:
    """x at t = 1, of which w is given."""
    at = path.coefficients(torch.ones((), dtype=torch.float64))
    return torch.from_numpy(w) * torch.hypot(at.x0, at.noise) + at.source * source


def exact_denoiser(path: DiffusionPath, truth: Truth, source: float) -> Denoise:
    """The network of infinite capacity, through the path's own parameterization.

    It predicts the mean of its regression target given x_t; the path turns the prediction into an estimate.
    """

    def denoise(x: Tensor, time: float) -> Estimate:
        t, y = torch.tensor(time, dtype=torch.float64), torch.full_like(x, source)
        at = path.coefficients(t)
        a, b, s = float(at.x0), float(at.source), float(at.noise)
        z, norm = x.numpy() - b * source, math.hypot(a, s) or 1.0
        x0 = truth.posterior_mean(z / norm, (a / norm) ** 2)
        noise = (z - a * x0) / s if s else np.zeros_like(z)
        output = path.training_pair(torch.from_numpy(x0), torch.from_numpy(noise), t, y).target
        return path.estimate(output, x, t, y)

    return denoise


def _with_every_prediction_type(
    name: str, build: Callable[..., DiffusionPath], prediction_types: tuple[str, ...]
) -> dict[str, DiffusionPath]:
    found = {}
    for prediction_type in prediction_types:
        try:
            found[f"{name}-{prediction_type}"] = build(prediction_type=prediction_type)
        except ValueError:
            # Refused, see test_paths: where the end holds no signal; where there is no source.
            assert prediction_type in ("epsilon", "change")
    return found


def _all_paths() -> dict[str, DiffusionPath]:
    """Every class that can be built without arguments, and the variants that behave differently."""
    builders: dict[str, Callable[..., DiffusionPath]] = {
        "ScaledLinear-even": partial(paths.ScaledLinear, spacing="even"),
        "ScaledLinear-zero-snr": partial(paths.ScaledLinear, zero_terminal_snr=True),
        "Cosine-zero-snr": partial(paths.Cosine, zero_terminal_snr=True),
        "RectifiedFlow-condition": partial(paths.RectifiedFlow, start="condition", noise_std=0.5),
        "RectifiedFlow-quadratic": partial(
            paths.RectifiedFlow, start="condition", noise_std=0.5, times="quadratic", spacing="quadratic"
        ),
    }
    for name, kind in inspect.getmembers(paths, inspect.isclass):
        if issubclass(kind, DiffusionPath) and not inspect.isabstract(kind):
            arguments = inspect.signature(kind).parameters.values()
            if all(argument.default is not argument.empty for argument in arguments):
                builders[name] = kind
    found = {}
    for name, build in sorted(builders.items()):
        kind = build.func if isinstance(build, partial) else build
        found |= _with_every_prediction_type(name, build, kind.prediction_types)  # type: ignore[attr-defined]
    return found


PATHS = _all_paths()
EXAMPLES = {name.rpartition("-")[0]: path for name, path in PATHS.items()}
"""One prediction type of each path."""
