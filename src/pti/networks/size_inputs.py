"""What the regression of the bone's sizes sees of a dente image."""

from __future__ import annotations

from math import sqrt

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, pad

from pti.networks.alignment import Alignment

_SHIFT = 1 / 32
"""Shift of the copies of a training image, as a fraction of its edge: half a cell of a grid of 16.

Mean absolute errors of the height on patients who were left out, mm, of three phantoms (500 patients; other
anatomy, 60 patients; another scanner, 300 patients): means of cells 0.76, 1.17, 0.44; with shifted copies
0.67, 0.85, 0.40; means and mean squares 0.67, 0.75, 0.39; both 0.59, 0.46, 0.34. A grid of 8 × 8 cells: 0.79,
0.57, —; other shifts between 1/64 and 3/64: 0.59 to 0.63, 0.42 to 0.63, 0.34 to 0.35.
"""

_RARE = 0.05
"""Smallest spread of a cell, of the largest one: limits the weight of cells that are often empty."""

_APPEARANCE = 0.3
"""Weight of the aligned image's cells, relative to the displacements.

Root mean square errors of the height on new patients, geometric mean of nine training sets (48 to 320
patients of seven phantoms), with 32 × 32 cells: 0: 0.565, 0.15: 0.519, 0.3: 0.523, 0.6: 0.536 mm; with
16 × 16 and 64 × 64 cells and 0.3: 0.524 and 0.511 mm. More than 32 × 32 make the regression slow for
thousands of patients.
"""


class SizeInputs(nn.Module):
    """Reduce a normalised dente image to a vector.

    Without an alignment: mean and mean square of the image in each cell of a grid. With it: the displacements
    that align the image, and the mean of the aligned image in each cell. On seven phantoms with 48 to 320
    patients in training, this makes errors of the predicted height 15 to 44 % smaller.

    Args:
        grid: cells along each edge of the image.
        alignment: aligns images; None = as in earlier models.
    """

    def __init__(self, grid: int, alignment: Alignment | None = None) -> None:
        super().__init__()
        self.grid = grid
        self.alignment = alignment

    @property
    def width(self) -> int:
        """Length F of the vector."""
        if self.alignment is None:
            return 2 * self.grid**2
        return self.alignment.displacements + self.grid**2

    def fit(self, images: Tensor, background: float) -> None:
        """Fit the alignment, where there is one; see `Alignment.fit`."""
        if self.alignment is not None:
            self.alignment.fit(images, background)

    def forward(self, images: Tensor) -> Tensor:
        """Return the vectors (B, F) of normalised images (B, 1, S, S)."""
        if self.alignment is None:
            moments = torch.cat([images, images.square()], dim=1)
            return adaptive_avg_pool2d(moments, self.grid).flatten(1)
        displacements, aligned = self.alignment(images)
        return torch.cat([displacements, adaptive_avg_pool2d(aligned, self.grid).flatten(1)], dim=1)

    def copies(self, raw: Tensor) -> Tensor:
        """Return what to fit the regression on for a raw image (1, 1, S, S): (K, 1, S, S), itself first.

        Without an alignment, these are the image and eight shifted copies.
        """
        return shifted_copies(raw) if self.alignment is None else raw

    def spread(self, vectors: np.ndarray) -> np.ndarray:
        """Return what to divide the inputs by, (F,), given those of a training set, (…, F).

        The ridge penalty is then one of the squared weights. Displacements have one unit, and are divided by
        one number; cells each by its standard deviation.
        """
        deviation = vectors.std(axis=tuple(range(vectors.ndim - 1)))
        if self.alignment is None:
            return np.maximum(deviation, _RARE * deviation.max() or 1)
        shape, cells = np.split(deviation, [self.alignment.displacements])
        cells = np.maximum(cells, _RARE * cells.max() or 1)
        balance = _APPEARANCE * sqrt(len(shape) / len(cells))
        return np.concatenate([np.full_like(shape, np.sqrt(np.square(shape).mean()) or 1), cells / balance])


def shifted_copies(raw: Tensor) -> Tensor:
    """Return a raw image (1, 1, H, W), background 0, and shifted copies: (9, 1, H, W)."""
    height, width = raw.shape[-2:]
    reach = max(1, round(_SHIFT * max(height, width)))
    around = pad(raw, (reach,) * 4)
    places = [(down, across) for down in (0, -reach, reach) for across in (0, -reach, reach)]
    return torch.cat(
        [around[..., reach + down :, reach + across :][..., :height, :width] for down, across in places]
    )
