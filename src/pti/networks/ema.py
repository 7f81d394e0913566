"""An exponential moving average of a network's weights, kept as a second network."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Ema(nn.Module):
    """``model``: a frozen copy whose float parameters follow those of ``network``; all else is copied.

    The copy is used as it stands (validation, inference): weights are never swapped, so nothing can mix them
    up. ``decay`` is per step in (0, 1); with ``update_every`` n, the average moves every n-th step by decayⁿ,
    the same pace. Early on the decay is min(decay, (1 + s) / (10 + s)) after s steps, so that the initial
    weights are soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float, update_every: int = 1) -> None:
        super().__init__()
        if not 0 < decay < 1:
            raise ValueError(f"the decay of an average must lie between 0 and 1; found {decay}")
        if update_every < 1:
            raise ValueError(f"update_every must be at least 1; found {update_every}")
        self.decay = decay
        self.update_every = update_every
        self.model = copy.deepcopy(network).requires_grad_(False).eval()
        self.steps = 0

    # A buffer would live on the device, and reading it would wait for the device at every step.
    def get_extra_state(self) -> Tensor:
        """The number of steps seen, for the checkpoint."""
        return torch.tensor(self.steps)

    def set_extra_state(self, state: Tensor) -> None:
        """Takes the number of steps from a checkpoint."""
        self.steps = int(state)

    def train(self, mode: bool = True) -> Ema:
        """Stays in evaluation mode."""
        del mode
        return super().train(False)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Call after every step of the optimizer."""
        self.steps += 1
        if self.steps % self.update_every:
            return
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps)) ** self.update_every
        averages, weights = [], []
        for average, weight in zip(self.model.parameters(), network.parameters(), strict=True):
            if average.is_floating_point():
                averages.append(average)
                weights.append(weight.detach())
            else:
                average.copy_(weight)
        torch._foreach_lerp_(averages, weights, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
        for copied, buffer in zip(self.model.buffers(), network.buffers(), strict=True):
            copied.copy_(buffer)
