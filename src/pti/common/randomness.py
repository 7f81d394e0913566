"""Random generators that depend on what they are for, and on nothing that happened before."""

from __future__ import annotations

import hashlib
import unicodedata

import numpy as np
import torch


def keyed_generator(device: torch.device | str, *key: int) -> torch.Generator:
    """A generator seeded by non-negative integers such as (seed, step, rank): equal keys, equal draws."""
    seed = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(seed) >> 1)


def sample_generator(seed: int, name: str, sample: int) -> torch.Generator:
    """The generator, on the CPU, of one generated sample: the same on every machine and in every Python.

    Its own seed (``initial_seed()``) is a hash of the three, so that a sample depends on no other one.

    Args:
        seed: of the command.
        name: of the image; é as one or as two characters is the same name.
        sample: counted from 0.
    """
    key = f"{seed}/{sample}/{unicodedata.normalize('NFC', name)}"
    digest = hashlib.sha256(key.encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)
