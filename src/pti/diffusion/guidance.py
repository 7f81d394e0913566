"""Classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598).

Training drops conditions at random; sampling extrapolates the output away from the unconditional one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pti.common.transfer import to_device

ConditionalNetwork = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x_t (B, …), timesteps (B,), condition (B, …)) -> output (B, …)"""


def drop_condition(
    condition: Tensor, probability: float, generator: torch.Generator, null: Tensor | None = None
) -> Tensor:
    """Replace each of the conditions (B, …) by ``null`` with a probability in [0, 1], usually 0.1 to 0.2.

    ``null`` broadcasts to one condition; zeros by default, the mean of scaled latents.
    """
    if probability == 0:
        return condition
    dropped = torch.rand(len(condition), generator=generator, device=generator.device) < probability
    mask = to_device(dropped, condition.device).reshape(-1, *(1,) * (condition.dim() - 1))
    return torch.where(mask, _null(condition, null), condition)


def guided(
    network: ConditionalNetwork, condition: Tensor, scale: float, null: Tensor | None = None
) -> Callable[[Tensor, Tensor], Tensor]:
    """Bind the network's condition: output = null + scale·(conditional − null).

    x0 and noise are affine in the output, so guidance means the same for every prediction type. A ``scale``
    of 1 is the conditional network (one evaluation; otherwise one of a doubled batch), above 1 exaggerates
    the condition. Only a network trained with `drop_condition` knows ``null``.
    """

    def conditional(x_t: Tensor, timesteps: Tensor) -> Tensor:
        return network(x_t, timesteps, condition)

    def extrapolated(x_t: Tensor, timesteps: Tensor) -> Tensor:
        both = torch.cat([_null(condition, null), condition])
        without, given = network(x_t.repeat(2, *(1,) * (x_t.dim() - 1)), timesteps.repeat(2), both).chunk(2)
        return without + scale * (given - without)

    return conditional if scale == 1 else extrapolated


def _null(condition: Tensor, null: Tensor | None) -> Tensor:
    if null is None:
        return torch.zeros_like(condition)
    return null.to(condition).expand_as(condition)
