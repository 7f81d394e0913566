"""Texture features that nothing is trained with: the wavelet scattering transform of small patches.

Bruna and Mallat 2013, "Invariant scattering convolution networks": moduli of Morlet wavelets, of one wavelet
after another, averaged over the patch. The filters are fixed: no data, weights or loss function of a model
are involved.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, fft

PATCH = 32
"""Edge of a patch, pixels. Averages have a Gaussian weight of a standard deviation of a sixth of it."""

SPACING = 8
"""Distance between the centres of patches, pixels: the largest scale of the wavelets."""

_SCALES, _ANGLES = 3, 4
_FLOOR = 1e-3  # of the data range: below it, the logarithm would see noise only


def patch_centres(region: np.ndarray) -> np.ndarray:
    """Return row and column of the points of a grid that lie in a region (H, W) bool: (P, 2)."""
    points = np.argwhere(region[SPACING // 2 :: SPACING, SPACING // 2 :: SPACING])
    return points * SPACING + SPACING // 2


def patch_features(image: np.ndarray, centres: np.ndarray, data_range: float) -> np.ndarray:
    """Compute the logarithms of scattering coefficients up to the second order, (P, 61) float64.

    Args:
        image: (H, W) raw.
        centres: (P, 2) row and column of the patches' centres.
        data_range: Data range of the set, raw units.
    """
    half = PATCH // 2
    padded = np.pad(image.astype(np.float32) / np.float32(data_range), half)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (PATCH, PATCH))
    patches = torch.from_numpy(windows[centres[:, 0], centres[:, 1]])
    wavelets, weights = _filters()
    coefficients = [_mean(patches, weights).abs()]
    spectra = fft.fft2(patches)
    for scale in range(_SCALES):
        first = fft.ifft2(spectra[:, None] * wavelets[scale]).abs()  # (P, angles, PATCH, PATCH)
        coefficients.append(_mean(first, weights))
        for coarser in range(scale + 1, _SCALES):
            second = fft.ifft2(fft.fft2(first)[:, :, None] * wavelets[coarser]).abs()
            coefficients.append(_mean(second, weights))
    return torch.cat(coefficients, dim=1).double().add(_FLOOR).log().numpy()


def _mean(moduli: Tensor, weights: Tensor) -> Tensor:
    """(P, …, PATCH, PATCH) -> (P, coefficients)."""
    return (moduli.flatten(-2) @ weights.flatten()).reshape(len(moduli), -1)


@lru_cache(maxsize=1)
def _filters() -> tuple[Tensor, Tensor]:
    """Morlet wavelets in the Fourier domain (scales, angles, PATCH, PATCH), and weights of the average.

    At scale j the envelope has a standard deviation of 0.8 · 2^j pixels and the wave a frequency of
    3π/4 · 2^-j; the mean is removed.
    """
    frequencies = 2 * np.pi * np.fft.fftfreq(PATCH)

    def gaussian(centre: float, sigma: float) -> np.ndarray:
        """Fourier transform of a Gaussian around a frequency, repeated with the period of the pixels."""
        offsets = frequencies - centre + 2 * np.pi * np.arange(-1, 2)[:, None]
        return np.exp(-((sigma * offsets) ** 2) / 2).sum(axis=0)

    wavelets = np.empty((_SCALES, _ANGLES, PATCH, PATCH), np.float32)
    for scale, angle in np.ndindex(_SCALES, _ANGLES):
        sigma, frequency = 0.8 * 2**scale, 0.75 * np.pi / 2**scale
        turn = np.pi * angle / _ANGLES
        down, across = frequency * np.sin(turn), frequency * np.cos(turn)
        wave = np.outer(gaussian(down, sigma), gaussian(across, sigma))
        still = np.outer(gaussian(0, sigma), gaussian(0, sigma))
        wavelets[scale, angle] = wave - wave[0, 0] / still[0, 0] * still
    weight = np.exp(-0.5 * ((np.arange(PATCH) - PATCH // 2) / (PATCH / 6)) ** 2)
    weights = np.outer(weight, weight) / weight.sum() ** 2
    return torch.from_numpy(wavelets), torch.from_numpy(weights.astype(np.float32))
