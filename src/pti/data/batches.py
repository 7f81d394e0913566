"""Assignment of samples to batches: pure functions of the seed, the epoch and the number of devices."""

import hashlib

import numpy as np


def training_batches(
    samples: int, batch_size: int, seed: int, epoch: int, rank: int = 0, world_size: int = 1
) -> list[list[int]]:
    """Return one rank's batches of an epoch, shuffled by (seed, epoch).

    An epoch is divided into global batches of ``batch_size * world_size`` samples, and rank r takes every
    ``world_size``-th sample of each, starting with the r-th. Together the ranks therefore see each sample
    exactly once, all have the same number of batches, and one device with batch size 8 has the same global
    batches as two with batch size 4. The last global batch may be smaller; if it is too small for all ranks,
    it is merged into the previous one.

    Args:
        samples: Number of samples; at least ``batch_size * world_size``.
        batch_size: Samples per rank and batch.
        seed: Seed of the run.
        epoch: Epoch, counted from 0.
        rank: Index of this process.
        world_size: Number of processes.

    Returns:
        Sample indices of each batch.
    """
    global_batch = batch_size * world_size
    digest = hashlib.sha256(f"order/{seed}/{epoch}".encode()).digest()
    # numpy guarantees the stream of RandomState: any version resumes a checkpoint in the same order.
    order = np.random.RandomState(int.from_bytes(digest[:4], "big")).permutation(samples)
    cuts = np.arange(global_batch, samples, global_batch)
    if len(cuts) and samples - cuts[-1] < world_size:
        cuts = cuts[:-1]
    return [batch[rank::world_size].tolist() for batch in np.split(order, cuts)]


def evaluation_batches(samples: int, batch_size: int, rank: int = 0, world_size: int = 1) -> list[list[int]]:
    """Return one rank's batches for validation or test: every ``world_size``-th sample, in order."""
    indices = list(range(samples))[rank::world_size]
    return [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]


def too_few_samples(samples: int, batch_size: int, devices: int) -> tuple[str, str] | None:
    """Return a description and a remedy if an epoch has no batch for every device; None if it has one."""
    if samples >= batch_size * devices:
        return None
    plural, each = "s" if samples != 1 else "", f" on each of {devices} devices" if devices > 1 else ""
    what = f"only {samples} training sample{plural}, fewer than one batch of {batch_size}{each}"
    usable = min(devices, samples)
    changes = [f"trainer.devices={usable}"] if 0 < usable < devices else []
    if usable and samples // usable < batch_size:
        changes.append(f"data.batch_size={samples // usable}")
    return what, f"Set {' and '.join(changes)}, or add images." if changes else "Add images."
