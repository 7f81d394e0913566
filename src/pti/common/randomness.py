"""Random generators seeded by their purpose alone, independent of anything drawn before."""

from __future__ import annotations

import hashlib
import math
import unicodedata

import numpy as np
import torch

from pti.common.files import to_bytes


def keyed_generator(device: torch.device | str, *key: int) -> torch.Generator:
    """Create a generator seeded by non-negative integers such as (seed, step, rank)."""
    seed = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(seed) >> 1)


def sample_generator(seed: int, name: str, sample: int) -> torch.Generator:
    """Create the CPU generator of one generated sample, the same on every machine and in every Python.

    Its seed (``initial_seed()``) is a hash of the arguments, so that no sample depends on another.

    Args:
        seed: Seed of the command.
        name: Name of the image; composed and decomposed accents (é) are the same name.
        sample: Index of the sample, from 0.
    """
    key = f"{seed}/{sample}/{unicodedata.normalize('NFC', name)}"
    digest = hashlib.sha256(to_bytes(key)).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def sample_rank(seed: int, name: str, sample: int) -> float:
    """Return a number in [0, 1) for one generated sample; those of an image's samples are spread evenly.

    They are a Kronecker sequence with the golden ratio and a random start: each is uniformly distributed, and
    the first n of them have a smaller discrepancy than n independent numbers, for every n.
    """
    start = torch.rand((), generator=sample_generator(seed, name, -1), dtype=torch.float64).item()
    return (start + sample * (math.sqrt(5) - 1) / 2) % 1
