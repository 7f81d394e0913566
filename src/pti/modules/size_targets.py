"""Sizes of the bone as regression targets, without a unit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from pti.common.progress import track
from pti.data.normalization import Normalization
from pti.metrics.bone_agreement import LENGTHS, find_bone
from pti.modules.manual_optimization import ManualOptimization
from pti.modules.tif_data import TifDataModule
from pti.networks.size_condition import SizeCondition
from pti.networks.size_ridge import cell_moments, shifted_copies

MEASURES = (*LENGTHS, "area")


def power(measure: str) -> int:
    """Return the power of a length that a measure is."""
    return 2 if measure == "area" else 1


def relative_sizes(target: Tensor, pixel_mm: Tensor, measures: Sequence[str]) -> Tensor:
    """Measure the bones in raw edente images, on the CPU.

    Args:
        target: (B, 1, S, S), background 0.
        pixel_mm: (B,), edge of a pixel, mm.
        measures: M of `MEASURES`.

    Returns:
        (B, M) lengths relative to the edge of the image, area to its square; NaN without bone, and for a
        width above the crest.
    """
    rows = []
    for image, mm in zip(target.float().cpu().numpy()[:, 0], pixel_mm.tolist(), strict=True):
        lengths, edge = find_bone(image, mm).lengths, mm * target.shape[-1]
        rows.append([lengths[name] / edge ** power(name) for name in measures])
    return torch.tensor(rows, dtype=torch.float32)


class BatchSizes:
    """Sizes of the bones in the targets of batches that are still on the CPU.

    Batches of cached latents hold no images: those are measured once for each view.

    Args:
        measures: M of `MEASURES`.
    """

    def __init__(self, measures: Sequence[str]) -> None:
        self.measures = tuple(measures)
        self._of_view: dict[tuple[int, str], Tensor] = {}

    def measure(self, batch: dict[str, Any], module: ManualOptimization) -> Tensor:
        """Return the sizes (B, M); see `relative_sizes`.

        Args:
            batch: raw images ``target`` and ``pixel_mm``, or the ``name`` of each pair and its latents.
            module: the module that is trained; it has the data module and the present epoch.
        """
        if "target" in batch:
            return relative_sizes(batch["target"], batch["pixel_mm"], self.measures)
        data = module.datamodule
        assert data.latents is not None
        view = module.trainer.current_epoch % len(data.latents.views)
        return torch.stack([self._view_of(data, view, name) for name in batch["name"]])

    def _view_of(self, data: TifDataModule, view: int, name: str) -> Tensor:
        """Measure the target of a cached view (M,)."""
        if (view, name) not in self._of_view:
            images = data.training_set()
            index = next(index for index, sample in enumerate(images.samples) if sample.name == name)
            batch = images[view, index]
            self._of_view[view, name] = relative_sizes(batch["target"], batch["pixel_mm"], self.measures)[0]
        return self._of_view[view, name]


@torch.no_grad()
def measure_training_set(
    data: TifDataModule,
    normalization: Normalization,
    measures: Sequence[str],
    grid: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor, list[str]]:
    """Measure the training set, without augmentation.

    Args:
        data: the data module.
        normalization: of the dente images.
        measures: M of `MEASURES`.
        grid: cells along each edge of the images, for `cell_moments`; 0 = only the sizes are needed.
        device: where the moments are computed.

    Returns:
        Sizes (N, M), see `relative_sizes`; moments (N, 9, 2·grid²) of the dente images and their shifted
        copies on the CPU, (N, 0) without ``grid``; the patient of each image.
    """
    images = replace(data.training_set(), augmentation=None)
    sizes, moments = [], []
    for index in track(range(len(images)), "Measuring sizes"):
        batch = images[0, index]
        sizes.append(relative_sizes(batch["target"], batch["pixel_mm"], measures))
        if grid:
            raw = batch["condition"].to(device)
            copies = shifted_copies(raw)
            statistics = normalization.statistics(raw).expand(len(copies), -1)
            moments.append(cell_moments(normalization.normalize(copies, statistics), grid).cpu())
    patients = [sample.patient for sample in images.samples]
    return torch.cat(sizes), torch.stack(moments) if grid else torch.empty(len(sizes), 0), patients


def fit_sizes(condition: SizeCondition, normalization: Normalization, data: TifDataModule) -> None:
    """Fit the prediction of sizes on the training set without augmentation, unless it is fitted.

    All ranks compute the same; rank 0 says how well sizes can be predicted.

    Args:
        condition: fitted in place.
        normalization: of the dente images.
        data: the data module.
    """
    if condition.fitted:
        return
    sizes, inputs, patients = measure_training_set(
        data, normalization, condition.measures, condition.grid, condition.weights.device
    )
    say_errors(condition.measures, condition.fit(inputs.numpy(), sizes.numpy(), patients))


@rank_zero_only
def say_errors(measures: Sequence[str], errors: Iterable[float]) -> None:
    """Print how well sizes are predicted for patients who were left out of a fit."""
    shown = ", ".join(f"{name} {error:.2f}" for name, error in zip(measures, errors, strict=True))
    print(f"Sizes predicted for patients left out, error in standard deviations of the training set: {shown}")
