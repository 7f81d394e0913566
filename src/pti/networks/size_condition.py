"""Sizes of the edente bone as a condition of stage 2, with the distribution that they are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pti.common.precision import in_float32
from pti.common.transfer import to_device
from pti.networks.alignment import Alignment
from pti.networks.size_inputs import SizeInputs
from pti.networks.size_ridge import LIMIT, fit_ridge, patient_folds

_TAIL = 1e-4
"""Smallest distance of a rank from 0 and 1: sizes are drawn within 3.7 standard deviations."""

MIN_RESPONSE = 0.5
"""Smallest response that is compensated: drawn heights lie at most twice as far from their mean.

Three denoisers of 48 patients (phantom of another anatomy) have responses of 0.44, 0.59 and 0.76. Divided by
0.5 instead of these, their CRPS on 40 unseen patients is the same within 1.5 %; divided by 0.3, it is up to
10 % larger, and by 0.2, 10 to 32 %.
"""

MAX_OFFSET = 1.0
"""Largest offset that is compensated, in standard deviations of the heights: a denoiser that misses by more
has not learnt to follow them. Offsets of seven trained denoisers (four phantoms): 0 to 0.15."""


class SizeCondition(nn.Module):
    """Factorise p(y | x) into p(s | x) and p(y | x, s): draw the bone's sizes s first, then an image y.

    Training gives the denoiser the true sizes. For a translation, sizes are drawn from a normal distribution
    whose mean is a ridge regression on shape and appearance of the dente image x (`SizeInputs`). Its
    covariance is that of the errors on patients who were left out of the fit: the spread of samples is the
    uncertainty about a new patient, and not that of a network about the patients it was trained on.

    A denoiser that was trained on few patients relies partly on what it reads off the image itself: the
    height of its bones changes by less than the height that it is given. `fit_response` takes this ratio, and
    the heights given are drawn that much further from their mean: on 60 new patients, the nominal 80 %
    intervals of a model of 48 patients, with a ratio of 0.76, cover 72 % instead of 60 %. The widths are not
    compensated: denoisers read them off the image (ratios of 0.0 to 0.3), where they vary little.
    `fit_response` also takes the mean deviation of its bones from the heights given, and shifts these by it.

    Sizes are lengths relative to the edge of the image, standardised by their mean and standard deviation in
    the training set. The network gets each as a map with one value everywhere.

    Args:
        measures: M lengths of the bone, the most important one first; it is what ``ranks`` refer to.
        grid: cells along each edge of the image.
        alignment: of `SizeInputs`.

    Buffers: ``shift`` and ``scale`` (M,) of the sizes; ``weights`` (M, F) and ``bias`` (M,) of the
    regression; ``factor`` (M, M), the lower triangular root of the covariance; ``fitted`` (); ``response``
    (M,), the ratios of changes in the images to changes of the sizes given, 1 until measured; ``offset``
    (M,), the mean deviations of the images from the sizes given, standardised, 0 until measured.
    """

    shift: Tensor
    scale: Tensor
    weights: Tensor
    bias: Tensor
    factor: Tensor
    fitted: Tensor
    response: Tensor
    offset: Tensor

    def __init__(
        self,
        measures: Sequence[str] = ("height", "width_quarter", "width_half", "width_three_quarters"),
        grid: int = 16,
        alignment: Alignment | None = None,
    ) -> None:
        super().__init__()
        self.measures = tuple(measures)
        self.inputs = SizeInputs(grid, alignment)
        count = len(self.measures)
        self.register_buffer("shift", torch.zeros(count))
        self.register_buffer("scale", torch.ones(count))
        self.register_buffer("weights", torch.zeros(count, self.inputs.width))
        self.register_buffer("bias", torch.zeros(count))
        self.register_buffer("factor", torch.zeros(count, count))
        self.register_buffer("fitted", torch.tensor(False))
        self.register_buffer("response", torch.ones(count))
        self.register_buffer("offset", torch.zeros(count))
        self.register_load_state_dict_pre_hook(_complete_response)

    def fit(self, inputs: np.ndarray, sizes: np.ndarray, patients: Sequence[str]) -> np.ndarray:
        """Fit standardisation, regression and covariance.

        With bone in the images of fewer than two patients there is nothing to learn: the condition is 0.

        Args:
            inputs: (N, K, F), of dente images and their copies, the image first; see `SizeInputs.copies`.
            sizes: (N, M), relative to the edge; rows with NaN (no bone) are left out.
            patients: (N,), the patient of each image; left out of the fit as a whole.

        Returns:
            (M,) root mean square errors on patients who were left out, in standard deviations of the sizes.
        """
        known = np.isfinite(sizes).all(1)
        x, y, groups = inputs[known].astype(float), sizes[known].astype(float), np.asarray(patients)[known]
        self.fitted.fill_(True)
        if len(np.unique(groups)) < 2:
            return np.zeros(len(self.measures))
        shift, scale = y.mean(0), y.std(0)
        scale[scale == 0] = 1
        y = (y - shift) / scale
        ridge = fit_ridge(x, y, patient_folds(list(groups)), self.inputs.spread(x))
        covariance = ridge.errors.T @ ridge.errors / len(y)
        values = {
            "shift": shift,
            "scale": scale,
            "weights": ridge.full.weights,
            "bias": ridge.full.bias,
            "factor": np.linalg.cholesky(covariance + 1e-6 * np.eye(len(covariance))),
        }
        for name, value in values.items():
            getattr(self, name).copy_(torch.from_numpy(np.asarray(value)))
        return np.sqrt(covariance.diagonal())

    def fit_response(self, ratio: float, offset: float = 0.0) -> None:
        """Compensate for the denoiser's response to the first measure.

        Args:
            ratio: change of that size in the denoiser's images, divided by the change of the size given.
            offset: mean of that size in the images minus the mean of the size given, standardised.
        """
        self.response[0] = max(ratio, MIN_RESPONSE)
        self.offset[0] = min(max(offset, -MAX_OFFSET), MAX_OFFSET)

    def standardize(self, sizes: Tensor) -> Tensor:
        """Standardise true sizes (B, M); an unknown size (NaN) becomes 0, the mean."""
        return ((sizes - self.shift) / self.scale).nan_to_num(0.0)

    def draw(
        self, images: Tensor, generators: Sequence[torch.Generator], ranks: Sequence[float] | None = None
    ) -> Tensor:
        """Draw the standardised sizes (B, M) to give to the denoiser, for normalised dente images.

        Args:
            images: (B, 1, H, W).
            generators: one on the CPU for each image.
            ranks: (B,) in [0, 1), the quantile of the first measure in its distribution; None = random.
        """
        noise = torch.stack(
            [torch.randn(len(self.measures), generator=generator) for generator in generators]
        )
        if ranks is not None:
            rank = torch.tensor(ranks, dtype=torch.float64).clamp(_TAIL, 1 - _TAIL)
            noise[:, 0] = torch.special.ndtri(rank).float()
        return self.sizes_from(images, noise)

    def sizes_from(self, images: Tensor, noise: Tensor) -> Tensor:
        """Turn noise (B, M), N(0, 1), into standardised sizes (B, M), given normalised dente images."""
        with in_float32(images.device):
            mean = self.inputs(images).to(self.weights.dtype) @ self.weights.mT + self.bias
            deviation = to_device(noise, mean.device, mean.dtype) @ self.factor.mT
            return mean.clamp(-LIMIT, LIMIT) + (deviation - self.offset) / self.response

    def maps(self, sizes: Tensor, like: Tensor) -> Tensor:
        """Repeat standardised sizes (B, M) over the positions of latents (B, C, h, w): (B, M, h, w)."""
        return sizes.to(like.dtype)[..., None, None].expand(-1, -1, *like.shape[-2:])


def _complete_response(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Complete weights of models whose response or offset was not measured, or was one for all sizes."""
    response, stored = torch.ones_like(module.get_buffer("response")), state.get(f"{prefix}response")
    if stored is None or stored.shape != response.shape:
        response[:1] = 1 if stored is None else stored.flatten()[0]
        state[f"{prefix}response"] = response
    state.setdefault(f"{prefix}offset", torch.zeros_like(response))
