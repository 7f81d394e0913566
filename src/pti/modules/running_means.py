"""Means of per-sample figures over batches and ranks of any size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric


class RunningMeans(Metric):
    """Means of named per-sample values: sums and counts, added up over the ranks once, by ``compute``.

    Every sample weighs the same, whatever the size of its batch and however many samples its rank saw. The
    names are fixed at the start, so that a rank without samples takes part too.
    """

    full_state_update = False
    sums: Tensor
    counts: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        for state in ("sums", "counts"):
            self.add_state(state, torch.zeros(len(self.names)), dist_reduce_fx="sum")

    def start(self, device: torch.device) -> None:
        """Forgets everything; sums in float64 where the device has it."""
        self.set_dtype(torch.float32 if device.type == "mps" else torch.float64)
        self.to(device)
        self.reset()

    def update(self, name: str, values: Tensor, skip_nan: bool = False) -> None:
        """Adds one value per sample, (B,). With ``skip_nan``, NaN means "not defined" and isn't counted."""
        values = values.detach().to(self.sums)
        valid = ~values.isnan() if skip_nan else torch.ones_like(values, dtype=torch.bool)
        column = self.names.index(name)
        self.sums[column] += torch.where(valid, values, 0.0).sum()
        self.counts[column] += valid.sum()

    def compute(self) -> dict[str, float]:
        """The means of what was counted at all."""
        pairs = zip(self.names, self.sums.tolist(), self.counts.tolist(), strict=True)
        return {name: total / count for name, total, count in pairs if count > 0}
