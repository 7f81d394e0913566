"""Ridge regression of the bone's sizes on the vector that an image is reduced to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold
from torch import Tensor, nn

from pti.common.precision import in_float32
from pti.networks.size_inputs import SizeInputs

_FOLDS = 5
_PENALTIES = np.logspace(-1, 5, 13)
"""Ridge penalties of standardised inputs, of which cross-validation chooses one."""

LIMIT = 4.0
"""Largest predicted mean, in standard deviations of the sizes, for images that are unlike all others."""


@dataclass(frozen=True)
class LinearMap:
    """An affine map inputs (…, F) -> values (…, M).

    Attributes:
        weights: (M, F).
        bias: (M,).
    """

    weights: np.ndarray
    bias: np.ndarray

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Return the values (…, M) of inputs (…, F)."""
        return inputs @ self.weights.T + self.bias


@dataclass(frozen=True)
class RidgeFit:
    """A ridge regression, and the same without the images of each fold.

    Attributes:
        full: fitted on all images.
        left_out: K maps, each fitted without the images of one fold.
        errors: (N, M), predicted minus true sizes, by the map that left out the image's fold.
        penalty: the one that was chosen.
    """

    full: LinearMap
    left_out: Sequence[LinearMap]
    errors: np.ndarray
    penalty: float


def patient_folds(patients: Sequence[str]) -> np.ndarray:
    """Assign images to up to five folds, all images of a patient to the same one: (N,) int from 0."""
    groups = np.asarray(patients)
    folds = np.empty(len(groups), int)
    count = min(_FOLDS, len(np.unique(groups)))
    for number, (_, outside) in enumerate(GroupKFold(count).split(groups, groups=groups)):
        folds[outside] = number
    return folds


def fit_ridge(
    inputs: np.ndarray,
    sizes: np.ndarray,
    folds: np.ndarray,
    spread: np.ndarray,
    penalties: Sequence[float] | None = None,
) -> RidgeFit:
    """Fit sizes to the inputs of images; cross-validation chooses the penalty.

    Args:
        inputs: (N, K, F), of images and their copies, the image itself first; each image counts once.
        sizes: (N, M), standardised, without NaN.
        folds: (N,) of `patient_folds`; at least two different ones.
        spread: (F,), what to divide inputs by before their weights are penalised.
        penalties: to choose from; None = 0.1 to 1e5.
    """
    center = inputs.mean((0, 1))
    x = (inputs - center) / spread
    candidates = []
    for penalty in _PENALTIES if penalties is None else penalties:
        maps = [_ridge(x[folds != fold], sizes[folds != fold], penalty) for fold in range(folds.max() + 1)]
        errors = np.empty_like(sizes)
        for fold, fitted in enumerate(maps):
            errors[folds == fold] = fitted(x[folds == fold, 0]) - sizes[folds == fold]
        candidates.append((float(np.square(errors).mean()), float(penalty), maps, errors))
    _, penalty, maps, errors = min(candidates, key=lambda candidate: candidate[0])
    full, *left_out = (
        LinearMap(fitted.weights / spread, fitted.bias - fitted.weights / spread @ center)
        for fitted in (_ridge(x, sizes, penalty), *maps)
    )
    return RidgeFit(full, left_out, errors, penalty)


def _ridge(x: np.ndarray, y: np.ndarray, penalty: float) -> LinearMap:
    """Fit sizes (N, M) to inputs (N, K, F) of K copies of each image."""
    copies = x.shape[1]
    ridge = Ridge(penalty * copies).fit(x.reshape(-1, x.shape[-1]), y.repeat(copies, axis=0))
    return LinearMap(np.atleast_2d(ridge.coef_), np.atleast_1d(ridge.intercept_))


class SizeRidge(nn.Module):
    """A ridge regression of standardised sizes on normalised images, for a network to correct.

    For the images of a training, it has one more map for each fold of patients, fitted on all others: the
    network then learns from predictions whose errors are those for new patients (stacked generalization,
    Wolpert 1992).

    Args:
        measures: M.
        inputs: images to vectors of length F.

    Buffers: ``weights`` (M, F) and ``bias`` (M,), fitted on all patients; ``error`` (M,), the root mean
    square error on patients who were left out, 1 where nothing can be predicted. In training also
    ``fold_weights`` (1 + J, M, F) and ``fold_bias`` (1 + J, M): of all patients, then of each fold.
    """

    weights: Tensor
    bias: Tensor
    error: Tensor
    fold_weights: Tensor
    fold_bias: Tensor

    def __init__(self, measures: int, inputs: SizeInputs) -> None:
        super().__init__()
        self.inputs = inputs
        self.register_buffer("weights", torch.zeros(measures, inputs.width))
        self.register_buffer("bias", torch.zeros(measures))
        self.register_buffer("error", torch.ones(measures))
        self.register_buffer("fold_weights", torch.zeros(1, measures, inputs.width), persistent=False)
        self.register_buffer("fold_bias", torch.zeros(1, measures), persistent=False)

    def fit(self, inputs: np.ndarray, sizes: np.ndarray, patients: Sequence[str]) -> np.ndarray:
        """Fit each measure on the images that have it; with too few of them, its prediction is the mean.

        Args:
            inputs: (N, K, F), of images and their copies, the image first; see `SizeInputs.copies`.
            sizes: (N, M), standardised; NaN where a bone lacks a measure.
            patients: (N,), the patient of each image.

        Returns:
            (N,) int, the index of each image's fold for `forward`, from 1; 0 if there is only one patient.
        """
        if len(set(patients)) < 2:
            return np.zeros(len(sizes), int)
        x, folds, penalties = inputs.astype(float), patient_folds(patients), None
        spread = self.inputs.spread(x)
        count, (measures, width) = folds.max() + 1, self.weights.shape
        self.fold_weights = self.weights.new_zeros(1 + count, measures, width)
        self.fold_bias = self.weights.new_zeros(1 + count, measures)
        for measure, values in enumerate(sizes.astype(float).T):
            known = np.isfinite(values)
            if len(set(folds[known])) < 2:
                continue
            fitted = fit_ridge(x[known], values[known, None], folds[known], spread, penalties)
            penalties = penalties or [fitted.penalty]  # the first measure chooses it for all
            self.error[measure] = float(np.sqrt(np.square(fitted.errors).mean()))
            maps = [fitted.full, *fitted.left_out]
            maps += [fitted.full] * (count + 1 - len(maps))
            self.fold_weights[:, measure] = torch.from_numpy(np.stack([own.weights[0] for own in maps]))
            self.fold_bias[:, measure] = torch.tensor([own.bias[0] for own in maps])
        self.weights.copy_(self.fold_weights[0])
        self.bias.copy_(self.fold_bias[0])
        return 1 + folds

    def forward(self, images: Tensor, folds: Tensor | None = None) -> Tensor:
        """Predict standardised sizes (B, M); of training images with the index (B,) of their ``folds``."""
        with in_float32(images.device):
            inputs = self.inputs(images).to(self.weights.dtype)
            if folds is None:
                mean = inputs @ self.weights.mT + self.bias
            else:
                mean = torch.einsum("bf,bmf->bm", inputs, self.fold_weights[folds]) + self.fold_bias[folds]
            return mean.clamp(-LIMIT, LIMIT)
