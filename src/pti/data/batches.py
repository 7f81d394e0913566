"""Which samples make which batch: functions of the seed, the epoch and the number of devices, with no
state."""

import hashlib

import numpy as np


def training_batches(
    samples: int, batch_size: int, seed: int, epoch: int, rank: int = 0, world_size: int = 1
) -> list[list[int]]:
    """One rank's batches of an epoch, shuffled by (seed, epoch).

    The order of an epoch is cut into global batches of ``batch_size * world_size``, and rank r takes every
    ``world_size``-th sample of each, from the r-th on. So the ranks together see each sample exactly once,
    all have the same number of batches, and 1 device with batch 8 has the same global batches as 2 with batch
    4. The last global batch is smaller where the numbers say so; too small for all ranks, it joins the one
    before.

    Args:
        samples: how many there are; at least ``batch_size * world_size``.
        batch_size: for each rank.
        seed: of the run.
        epoch: counted from 0.
        rank: of this process.
        world_size: number of processes.

    Returns:
        Sample indices of each batch.
    """
    together = batch_size * world_size
    digest = hashlib.sha256(f"order/{seed}/{epoch}".encode()).digest()
    # RandomState, whose stream numpy has frozen: a checkpoint is resumed in the same order with any numpy.
    order = np.random.RandomState(int.from_bytes(digest[:4], "big")).permutation(samples)
    starts = list(range(0, samples, together))
    if len(starts) > 1 and samples - starts[-1] < world_size:
        starts.pop()
    ends = [*starts[1:], samples]
    return [order[start:end][rank::world_size].tolist() for start, end in zip(starts, ends, strict=True)]


def evaluation_batches(samples: int, batch_size: int, rank: int = 0, world_size: int = 1) -> list[list[int]]:
    """One rank's batches for validation or test: every ``world_size``-th sample, in order, none twice."""
    own = list(range(samples))[rank::world_size]
    return [own[start : start + batch_size] for start in range(0, len(own), batch_size)]
