"""Random generators that depend on what they are for, and on nothing that happened before."""

from __future__ import annotations

import numpy as np
import torch


def keyed_generator(device: torch.device | str, *key: int) -> torch.Generator:
    """A generator seeded by non-negative integers such as (seed, step, rank): equal keys, equal draws."""
    seed = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(seed) >> 1)
