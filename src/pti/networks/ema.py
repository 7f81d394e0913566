"""An exponential moving average of a network's weights, kept as a second network."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Ema(nn.Module):
    """A frozen copy, ``model``, whose floating-point parameters follow those of a network.

    Integers and buffers are copied. Validation and inference use the copy itself: weights are never swapped.
    After s steps the decay is at most (1 + s) / (10 + s), so that the initial weights are soon forgotten.

    Args:
        network: the network to average.
        decay: per step, in (0, 1).
        update_every: steps between updates; n steps move the average by decayⁿ, at the same pace.
    """

    def __init__(self, network: nn.Module, decay: float, update_every: int = 1) -> None:
        super().__init__()
        if not 0 < decay < 1:
            raise ValueError(f"ema_decay={decay}: expected a number between 0 and 1, both excluded")
        if update_every < 1:
            raise ValueError(f"ema_update_every={update_every}: expected a number of 1 or more")
        self.decay = decay
        self.update_every = update_every
        self.model = copy.deepcopy(network).requires_grad_(False).eval()
        self.steps = 0

    # A buffer would be on the device, and reading it would wait for the device at every step.
    def get_extra_state(self) -> Tensor:
        """Return the number of steps, for the checkpoint."""
        return torch.tensor(self.steps)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the number of steps from a checkpoint."""
        self.steps = int(state)

    def train(self, mode: bool = True) -> Ema:
        """Stay in evaluation mode, whatever ``mode`` is."""
        del mode
        return super().train(False)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Update the average; call after every step of the optimizer."""
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
