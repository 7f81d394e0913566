"""Alignment of images to the average of a training set, which separates their shape from their appearance."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, interpolate, pad

from pti.common.precision import in_float32
from pti.networks.blur import blur

EDGE = 128
"""Edge in pixels to which images are resized before they are aligned."""

_KNOTS = 33
"""Intensities of the equalisation: every 3 % of the tissue of the training set."""

TEMPLATE_IMAGES = 100
"""Images that a template is the average of, at most."""

_ROUNDS = 4
"""Times that the template is recomputed from aligned images; the alignment's error is constant after two."""

_DAMPING = 0.01
"""Added to the diagonal, of its mean: keeps displacements bounded where the template is uniform."""

_LONGEST = 0.2
"""Bound of a step, half edges of the image: an image unlike all others doesn't send it to infinity. Without a
bound, or with 0.7 of each step, errors of the predicted heights change by less than 0.5 %."""


class Stage(NamedTuple):
    """One resolution of the alignment.

    Attributes:
        control_points: control points of the displacement along each edge, at least 4.
        blur: standard deviation of the blur, pixels of `EDGE`.
        size: edge of the blurred images, pixels.
        steps: Gauss-Newton steps.
    """

    control_points: int
    blur: float
    size: int
    steps: int


STAGES = (
    Stage(5, 10, 16, 5),
    Stage(7, 6, 32, 5),
    Stage(11, 3, 32, 8),
    Stage(19, 1.5, 64, 10),
    Stage(19, 1, EDGE, 5),
)
"""From coarse to fine. Twice the steps make errors of the predicted heights 1.0 % smaller, half of them 0.7 %
larger (nine training sets; see `Alignment`)."""


class Alignment(nn.Module):
    """Deform an image until it matches the average of the training set.

    The displacement u is a tensor product of cubic B-splines (free-form deformation, Rueckert et al. 1999).
    For the image I, the template T and the bending energy E, it approximates the minimum of

        mean (I(x + u(x)) − T(x))² + stiffness · E(u)

    It is found from coarse to fine by Gauss-Newton steps with the gradient of the template instead of the
    image's (Lucas and Kanade 1981; Baker and Matthews 2004), whose matrix is therefore inverted once, in
    `fit`. Intensities are first equalised by their distribution in the training set, so that unit and
    contrast of the scanner don't matter. The template is the average of aligned training images. Displacement
    and aligned image are the two parts of an active appearance model (Cootes et al. 2001): shape, and
    appearance without shape.

    Args:
        stiffness: weight of the bending energy, relative to the mean diagonal of the Gauss-Newton matrix.
            Root mean square errors of the height on new patients, geometric mean of nine training sets (48 to
            320 patients of seven phantoms): 0.2: 0.574, 1: 0.528, 5: 0.523, 20: 0.527 mm.

    Buffers: ``background`` (), the value of the background; ``intensities`` (33,), quantiles of the tissue;
    for each of `STAGES` ``template_i`` (1, 1, n, n) and ``inverse_i`` (2g², 2g²) of g control points.
    """

    background: Tensor
    intensities: Tensor

    def __init__(self, stiffness: float = 5.0) -> None:
        super().__init__()
        self.stiffness = stiffness
        self.register_buffer("background", torch.tensor(0.0))
        self.register_buffer("intensities", torch.linspace(0, 1, _KNOTS))
        for index, stage in enumerate(STAGES):
            count = 2 * stage.control_points**2
            self.register_buffer(f"template_{index}", torch.zeros(1, 1, stage.size, stage.size))
            self.register_buffer(f"inverse_{index}", torch.zeros(count, count))
            basis = spline_basis(stage.control_points, stage.size)
            self.register_buffer(f"basis_{index}", basis, persistent=False)
            self.register_buffer(f"bending_{index}", bending_energy(stage.control_points), persistent=False)
            if index and stage.control_points != STAGES[index - 1].control_points:
                finer = refinement(STAGES[index - 1].control_points, stage.control_points)
                self.register_buffer(f"refinement_{index}", finer, persistent=False)

    @property
    def _finest(self) -> Tensor:
        """Basis of the finest displacement at `EDGE` pixels."""
        return self.get_buffer(f"basis_{len(STAGES) - 1}")

    @property
    def displacements(self) -> int:
        """Number of coordinates of the finest displacement."""
        return 2 * STAGES[-1].control_points ** 2

    @torch.no_grad()
    def fit(self, images: Tensor, background: float) -> None:
        """Make the template, and what the steps need of it.

        Args:
            images: (N, 1, S, S) of the training set.
            background: their value where there is no tissue.
        """
        tissue = images.cpu().double().numpy()
        tissue = tissue[tissue != background]
        if not len(tissue):
            return
        self.background.fill_(background)
        self.intensities.copy_(torch.from_numpy(np.quantile(tissue, np.linspace(0, 1, _KNOTS))))
        with in_float32(images.device):
            equalized = self._resize(self.equalize(images.float()))
            template = equalized.mean(0, keepdim=True)
            for _ in range(_ROUNDS):
                self._use(template)
                displacement = self._register(equalized)
                displacement = displacement - displacement.mean(0, keepdim=True)
                template = self._warp(equalized, displacement, self._finest).mean(0, keepdim=True)
            self._use(template)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Align images.

        Args:
            images: (B, 1, S, S), on the intensity scale of the training set.

        Returns:
            Displacements (B, 2g²): of the control points, relative to half the edge. Aligned images
            (B, 1, `EDGE`, `EDGE`): 0 in the background, 0.5 to 1.5 in tissue.
        """
        with in_float32(images.device):
            equalized = self._resize(self.equalize(images.float()))
            displacement = self._register(equalized)
            return displacement.flatten(1), self._warp(equalized, displacement, self._finest)

    def equalize(self, images: Tensor) -> Tensor:
        """Replace each value of tissue by 0.5 plus its rank in the training set, 0 to 1; background by 0."""
        low, high = self.intensities[:-1], self.intensities[1:]
        width = (high - low).clamp_min(1e-6 * (high[-1] - low[0]).clamp_min(1e-12))
        rank = torch.zeros_like(images)
        for index in range(_KNOTS - 1):  # a sum of ramps, because exported graphs have no searchsorted
            rank = rank + ((images - low[index]) / width[index]).clamp(0, 1)
        return torch.where(images != self.background, 0.5 + rank / (_KNOTS - 1), 0.0)

    @staticmethod
    def _resize(images: Tensor) -> Tensor:
        factor = images.shape[-1] // EDGE
        if factor > 1:
            images = avg_pool2d(images, factor)
        if images.shape[-1] == EDGE:
            return images
        return interpolate(images, (EDGE, EDGE), mode="bilinear", align_corners=False)

    def _use(self, template: Tensor) -> None:
        """Store what the steps need of a template (1, 1, EDGE, EDGE)."""
        for index, stage in enumerate(STAGES):
            reduced = _reduce(template, stage)
            # On the CPU, because not every device has float64.
            slope, basis, bending = (
                tensor.cpu().double()
                for tensor in (
                    _gradient(reduced)[0],
                    self.get_buffer(f"basis_{index}"),
                    self.get_buffer(f"bending_{index}"),
                )
            )
            matrix = _products(slope, basis)
            scale = matrix.diagonal().mean().clamp_min(1e-12)
            damping = _DAMPING * torch.eye(len(matrix), dtype=matrix.dtype)
            matrix = matrix + scale * (self.stiffness * torch.block_diag(bending, bending) + damping)
            self.get_buffer(f"inverse_{index}").copy_(torch.linalg.inv(matrix))
            self.get_buffer(f"template_{index}").copy_(reduced)

    def _register(self, equalized: Tensor) -> Tensor:
        """Return the displacements (B, 2, g, g) of equalised images (B, 1, EDGE, EDGE)."""
        displacement = None
        for index, stage in enumerate(STAGES):
            if displacement is None:
                points = stage.control_points
                displacement = equalized.new_zeros(equalized.shape[0], 2, points, points)
            elif stage.control_points != STAGES[index - 1].control_points:
                refine = self.get_buffer(f"refinement_{index}")
                displacement = refine @ displacement @ refine.mT
            displacement = self._descend(index, _reduce(equalized, stage), displacement)
        assert displacement is not None
        return displacement

    def _descend(self, index: int, images: Tensor, displacement: Tensor) -> Tensor:
        """Take the steps of one stage."""
        template, inverse = self.get_buffer(f"template_{index}"), self.get_buffer(f"inverse_{index}")
        basis, bending = self.get_buffer(f"basis_{index}"), self.get_buffer(f"bending_{index}")
        slope = _gradient(template)
        weight = self.stiffness * self._scale(slope, basis)
        for _ in range(STAGES[index].steps):
            residual = self._warp(images, displacement, basis) - template
            pull = basis.mT @ (slope * residual) @ basis / residual[0].numel()
            force = (pull + weight * (displacement.flatten(2) @ bending).view_as(pull)).flatten(1)
            step = (force @ inverse).view_as(displacement)
            longest = step.abs().amax((1, 2, 3), keepdim=True)
            displacement = displacement - step / (1 + longest / _LONGEST)
        return displacement

    @staticmethod
    def _scale(slope: Tensor, basis: Tensor) -> Tensor:
        """Return the mean diagonal of the Gauss-Newton matrix without bending energy, at least 1e-12."""
        squares = basis.square()
        diagonal = squares.mT @ slope.square() @ squares / slope[0, 0].numel()
        return diagonal.mean().clamp_min(1e-12)

    @staticmethod
    def _warp(images: Tensor, displacement: Tensor, basis: Tensor) -> Tensor:
        """Sample images (B, 1, n, n) at displaced positions; what lies outside is background."""
        shift = basis @ displacement @ basis.mT
        identity = torch.eye(2, 3, device=images.device)[None]
        grid = affine_grid(identity, [1, 1, *images.shape[-2:]], align_corners=False)
        return grid_sample(
            images, grid + shift.permute(0, 2, 3, 1), padding_mode="zeros", align_corners=False
        )


def spline_basis(control_points: int, size: int) -> Tensor:
    """Return the values of uniform cubic B-splines at the centres of pixels: (size, control_points)."""
    position = (torch.arange(size) + 0.5) / size * (control_points - 3)
    first = position.floor().clamp(0, control_points - 4).long()
    t = position - first
    pieces = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    basis = torch.zeros(size, control_points)
    for offset, piece in enumerate(pieces):
        basis[torch.arange(size), first + offset] = piece / 6
    return basis


def refinement(coarse: int, fine: int) -> Tensor:
    """Return the map (fine, coarse) to the control points of the most similar spline with more of them."""
    size = 4 * fine
    inverse = torch.linalg.pinv(spline_basis(fine, size).double())
    return (inverse @ spline_basis(coarse, size).double()).float()


def bending_energy(control_points: int) -> Tensor:
    """Return the matrix (g², g²) of the sum of squared second differences of g × g control points."""
    identity = torch.eye(control_points)
    first, second = (torch.diff(identity, n=order, dim=0) for order in (1, 2))
    first, second = first.mT @ first, second.mT @ second
    return torch.kron(second, identity) + torch.kron(identity, second) + 2 * torch.kron(first, first)


def _products(slope: Tensor, basis: Tensor) -> Tensor:
    """Return the Gauss-Newton matrix (2g², 2g²) of an image's derivatives (2, n, n) and a basis (n, g)."""
    squares = torch.einsum("xb,xd->xbd", basis, basis)
    rows = []
    for first in slope:
        products = [torch.einsum("yx,xbd->ybd", first * second, squares) for second in slope]
        blocks = [torch.einsum("yac,ybd->abcd", squares, product) for product in products]
        rows.append(torch.cat([block.flatten(2).flatten(0, 1) for block in blocks], dim=1))
    return torch.cat(rows) / slope[0].numel()


def _reduce(images: Tensor, stage: Stage) -> Tensor:
    """Blur images (B, 1, EDGE, EDGE) and average them to the size of a stage."""
    factor = EDGE // stage.size
    return avg_pool2d(blur(images, stage.blur, mode="constant"), factor)


def _gradient(image: Tensor) -> Tensor:
    """Return the derivatives of an image (1, 1, n, n) across and down, by half its edge: (1, 2, n, n)."""
    across, down = (image[..., 2:] - image[..., :-2]), (image[..., 2:, :] - image[..., :-2, :])
    return torch.cat([pad(across, (1, 1)), pad(down, (0, 0, 1, 1))], dim=1) * image.shape[-1] / 4
