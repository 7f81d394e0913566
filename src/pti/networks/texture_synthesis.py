"""Random texture with the statistics of what an autoencoder loses."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from pti.metrics.texture import BLUR, DEEP, fine_structure
from pti.networks.blur import blur

REACH = 8
"""Largest lag of the texture's covariance, pixels: five standard deviations of the Gaussian at 128 pixels."""

_SHALLOW = 0.841  # fraction of the Gaussian's weight on tissue, one standard deviation from a straight edge

_KNOTS = 8

_GRID = 4 * REACH


class TextureSynthesis(nn.Module):
    """Gaussian texture, filtered and scaled, in the manner of film-grain synthesis (Norkin & Birkbeck 2018).

    Reconstructions I' have less fine structure (`pti.metrics.texture`) than the images I. The texture is a
    stationary Gaussian field with the covariance of I minus that of I', multiplied by a function of the
    coarse intensity, σ² = E[fine²] − E[fine'²], both measured in the tissue that healing changes. Added to a
    decoded image, it restores the variance of the fine structure. It is random and does not correlate with
    the true image, like the noise of a diffusion model. It ends where tissue is not deep, so that surfaces
    stay as they are.

    Buffers: ``intensities`` and ``deviations`` (8,), normalised; ``kernel`` (1, 1, 17, 17) with a unit
    variance of the fine structure; ``fitted`` ().
    """

    intensities: Tensor
    deviations: Tensor
    kernel: Tensor
    fitted: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("intensities", torch.arange(_KNOTS, dtype=torch.float32))
        self.register_buffer("deviations", torch.zeros(_KNOTS))
        self.register_buffer("kernel", torch.zeros(1, 1, 2 * REACH + 1, 2 * REACH + 1))
        self.register_buffer("fitted", torch.tensor(False))

    def forward(self, image: Tensor, tissue: Tensor, noise: Tensor) -> Tensor:
        """Return texture to add, (B, 1, H, W).

        Args:
            image: decoded normalised images (B, 1, H, W).
            tissue: their pixels that are not background, (B, 1, H, W) bool.
            noise: (B, 1, H, W), N(0, 1).
        """
        mask, sigma = tissue.to(image.dtype), BLUR * max(image.shape[-2:])
        weight = blur(mask, sigma, "constant")
        coarse = blur(mask * image, sigma, "constant") / weight.clamp_min(1e-6)
        depth = ((weight - _SHALLOW) / (DEEP - _SHALLOW)).clamp(0, 1) * mask
        texture = conv2d(pad(noise, (REACH,) * 4, mode="reflect"), self.kernel.to(noise))
        return depth * self._deviation(coarse) * texture

    def _deviation(self, coarse: Tensor) -> Tensor:
        """Interpolate the standard deviation at intensities; constant outside the knots."""
        coarse = coarse.clamp(self.intensities[0], self.intensities[-1])
        after = torch.bucketize(coarse, self.intensities[1:-1], right=True) + 1
        low, high = self.intensities[after - 1], self.intensities[after]
        part = (coarse - low) / (high - low)
        return torch.lerp(self.deviations[after - 1], self.deviations[after], part)

    def fit(self, examples: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> None:
        """Measure the missing fine structure.

        Args:
            examples: normalised image (H, W), its reconstruction, background 0 in both, and where to
                compare them, bool. One or more.
        """
        size = 0
        coarse, squares, missing = [], [], np.zeros((_GRID, _GRID))
        for image, reconstruction, where in examples:
            own, other = fine_structure(image), fine_structure(reconstruction)
            size, deep = max(image.shape), own.deep & other.deep & where
            coarse.append((reconstruction - other.values)[deep])
            squares.append(own.values[deep] ** 2 - other.values[deep] ** 2)
            missing += _covariance(own.values * deep) - _covariance(other.values * deep)
        intensities, deviations = _by_intensity(np.concatenate(coarse), np.concatenate(squares))
        self.intensities.copy_(torch.from_numpy(intensities))
        self.deviations.copy_(torch.from_numpy(deviations))
        self.kernel.copy_(torch.from_numpy(_kernel(missing, BLUR * size))[None, None])
        self.fitted.fill_(True)


def _by_intensity(coarse: np.ndarray, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average missing squares (n,) in groups of equal size, by intensity (n,).

    Returns:
        Mean intensities, ascending, and standard deviations, (8,) each; 0 where nothing is missing.
    """
    order = np.argsort(coarse, kind="stable")
    groups = np.array_split(order, _KNOTS)
    if len(order) < _KNOTS:
        return np.arange(_KNOTS, dtype=np.float32), np.zeros(_KNOTS, np.float32)
    intensities = np.maximum.accumulate([coarse[group].mean(dtype=np.float64) for group in groups])
    intensities += 1e-6 * np.arange(_KNOTS)  # equal intensities can't be interpolated
    deviations = np.sqrt([max(0.0, squares[group].mean(dtype=np.float64)) for group in groups])
    return intensities.astype(np.float32), deviations.astype(np.float32)


def _covariance(values: np.ndarray) -> np.ndarray:
    """Sum the products of values (H, W) at lags up to `REACH`; on a torus of `_GRID`² lags."""
    padded = np.pad(values.astype(np.float64), ((0, REACH), (0, REACH)))
    products = np.fft.irfft2(np.abs(np.fft.rfft2(padded)) ** 2, padded.shape)
    lags = np.arange(-REACH, REACH + 1)
    covariance = np.zeros((_GRID, _GRID))
    covariance[np.ix_(lags, lags)] = products[np.ix_(lags, lags)]
    return covariance


def _kernel(covariance: np.ndarray, sigma: float) -> np.ndarray:
    """Return the filter (17, 17) that gives white noise the covariance of a fine structure, with variance 1.

    Args:
        covariance: of the fine structure, on a torus of lags; up to a factor.
        sigma: of the Gaussian that separates fine from coarse structure, pixels.
    """
    gaussian = np.exp(-2 * (math.pi * sigma * np.fft.fftfreq(_GRID)) ** 2)
    response = 1 - np.outer(gaussian, gaussian)
    taper = np.cos(math.pi / 2 * np.fft.fftfreq(_GRID, 1 / _GRID) / (REACH + 1)) ** 2
    spectrum = np.fft.fft2(covariance * np.outer(taper, taper)).real.clip(min=0)
    # Low frequencies are hardly measured: limited, they stay as weak as in the fine structure.
    kernel = np.fft.fftshift(np.fft.ifft2(np.sqrt(spectrum) / response.clip(min=0.3)).real)
    middle = slice(_GRID // 2 - REACH, _GRID // 2 + REACH + 1)
    kernel = kernel[middle, middle]
    variance = (np.abs(np.fft.fft2(kernel, response.shape) * response) ** 2).mean()
    return (kernel / math.sqrt(variance) if variance > 0 else kernel).astype(np.float32)
