"""Sizes of the bone as regression targets, without a unit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pti.metrics.bone_agreement import LENGTHS, find_bone

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
