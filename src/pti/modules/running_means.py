"""Means over a data set that is spread over ranks unevenly."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class RunningMeans:
    """Sums and counts of named per-sample values, joined once at the end, however many samples a rank saw.

    The names are fixed at the start, so that a rank without samples takes part too.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._state = torch.zeros(2, len(self.names))

    def reset(self, device: torch.device) -> None:
        """Forgets everything; sums in float64 where the device has it."""
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._state = torch.zeros(2, len(self.names), dtype=dtype, device=device)

    def add(self, name: str, values: Tensor, skip_nan: bool = False) -> None:
        """Adds one value per sample, (B,). With ``skip_nan``, NaN means "not defined" and isn't counted."""
        values = values.detach().to(self._state)
        valid = ~values.isnan() if skip_nan else torch.ones_like(values, dtype=torch.bool)
        column = self.names.index(name)
        self._state[0, column] += torch.where(valid, values, 0.0).sum()
        self._state[1, column] += valid.sum()

    def compute(self, reduce: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """The means of what was counted at all; ``reduce`` sums a tensor over the ranks."""
        total, count = reduce(self._state.clone()).tolist()
        return {name: t / n for name, t, n in zip(self.names, total, count, strict=True) if n > 0}
