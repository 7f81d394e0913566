"""Decisions that all ranks take together."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
from torch import distributed

_TIMEOUT = timedelta(minutes=30)


class RankConsensus:
    """Small collectives on the CPU: they never wait for the accelerator, and cost nothing with one process.

    Every method but ``world_size`` is collective: all ranks call it, in the same order.
    """

    def __init__(self) -> None:
        self._group: Any = None  # None: the default group

    def open(self) -> None:
        """Call once the process group exists and before anything else."""
        if self.world_size > 1 and distributed.get_backend() != "gloo":
            self._group = distributed.new_group(backend="gloo", timeout=_TIMEOUT)

    @property
    def world_size(self) -> int:
        """Number of processes."""
        initialized = distributed.is_available() and distributed.is_initialized()
        return distributed.get_world_size() if initialized else 1

    def maximum(self, *values: float) -> list[float]:
        """The largest of each value over the ranks."""
        if self.world_size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX, group=self._group)
        return tensor.tolist()

    def minimum(self, value: float) -> float:
        """The smallest value over the ranks."""
        return -self.maximum(-value)[0]

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in the order of the ranks."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        distributed.all_gather_object(values, value, group=self._group)
        return values
