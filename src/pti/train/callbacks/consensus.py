"""Decisions that all ranks take together."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
from torch import distributed

_TIMEOUT = timedelta(minutes=30)


class RankConsensus:
    """Exchange small values between ranks on the CPU, so that no rank waits for an accelerator.

    Every method except ``world_size`` is collective: all ranks must call it, in the same order. With one
    process the methods return at once.
    """

    def __init__(self) -> None:
        self._group: Any = None  # None: the default group

    def open(self) -> None:
        """Create the CPU process group; call this first, once the default group exists."""
        if self.world_size > 1 and distributed.get_backend() != "gloo":
            self._group = distributed.new_group(backend="gloo", timeout=_TIMEOUT)

    @property
    def world_size(self) -> int:
        """Number of processes."""
        initialized = distributed.is_available() and distributed.is_initialized()
        return distributed.get_world_size() if initialized else 1

    def maximum(self, *values: float) -> list[float]:
        """Return the maximum over the ranks of each value."""
        if self.world_size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX, group=self._group)
        return tensor.tolist()

    def minimum(self, value: float) -> float:
        """Return the minimum of a value over the ranks."""
        return -self.maximum(-value)[0]

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in rank order."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        distributed.all_gather_object(values, value, group=self._group)
        return values
