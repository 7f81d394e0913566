"""Sizes of the bone as regression targets, without a unit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from pti.common.progress import track
from pti.data.dataset import TifDataset
from pti.data.normalization import Normalization
from pti.data.splits import evenly_spaced
from pti.metrics.bone_agreement import LENGTHS, find_bone
from pti.modules.manual_optimization import ManualOptimization
from pti.modules.tif_data import TifDataModule
from pti.networks.alignment import TEMPLATE_IMAGES
from pti.networks.size_condition import SizeCondition
from pti.networks.size_inputs import SizeInputs

MEASURES = (*LENGTHS, "area")

_AT_ONCE = 16
"""Images that are reduced together."""


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
    reducer: SizeInputs | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor, list[str]]:
    """Measure the training set, without augmentation.

    Args:
        data: the data module.
        normalization: of the dente images.
        measures: M of `MEASURES`.
        reducer: fitted on the dente images, and applied to them; None = only the sizes are needed.
        device: where the dente images are reduced.

    Returns:
        Sizes (N, M), see `relative_sizes`; vectors (N, K, F) of the dente images and their copies on the CPU,
        (N, 0) without ``reducer``; the patient of each image.
    """
    images = replace(data.training_set(), augmentation=None)
    if reducer is not None:
        _fit_reducer(reducer, images, normalization, device)
    sizes, vectors, waiting = [], [], []
    for index in track(range(len(images)), "Measuring sizes"):
        batch = images[0, index]
        sizes.append(relative_sizes(batch["target"], batch["pixel_mm"], measures))
        if reducer is None:
            continue
        waiting.append(_normalized(reducer.copies(batch["condition"].to(device)), normalization))
        if len(waiting) == _AT_ONCE or index == len(images) - 1:
            copies = waiting[0].shape[0]
            vectors.append(reducer(torch.cat(waiting)).unflatten(0, (-1, copies)).cpu())
            waiting = []
    patients = [sample.patient for sample in images.samples]
    return torch.cat(sizes), torch.cat(vectors) if vectors else torch.empty(len(sizes), 0), patients


def _fit_reducer(
    reducer: SizeInputs, images: TifDataset, normalization: Normalization, device: torch.device | str
) -> None:
    """Fit the reducer on dente images at even distances."""
    if reducer.alignment is None:
        return
    chosen = evenly_spaced(list(range(len(images))), TEMPLATE_IMAGES)
    raw = [images[0, index]["condition"].to(device) for index in chosen]
    background = _normalized(torch.zeros_like(raw[0][..., :1, :1]), normalization)
    reducer.fit(torch.cat([_normalized(image, normalization) for image in raw]), float(background))


def _normalized(raw: Tensor, normalization: Normalization) -> Tensor:
    """Normalise a raw image and its copies (K, 1, S, S) by the statistics of the image."""
    statistics = normalization.statistics(raw[:1]).expand(len(raw), -1)
    return normalization.normalize(raw, statistics)


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
        data, normalization, condition.measures, condition.inputs, condition.weights.device
    )
    say_errors(condition.measures, condition.fit(inputs.numpy(), sizes.numpy(), patients))


@rank_zero_only
def say_errors(measures: Sequence[str], errors: Iterable[float]) -> None:
    """Print how well sizes are predicted for patients who were left out of a fit."""
    shown = ", ".join(f"{name} {error:.2f}" for name, error in zip(measures, errors, strict=True))
    print(f"Sizes predicted for patients left out, error in standard deviations of the training set: {shown}")
