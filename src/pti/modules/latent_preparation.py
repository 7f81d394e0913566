"""Before the first step of a second stage: latents encoded once, their scale measured once; on all ranks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from filelock import FileLock
from lightning import Trainer
from torch import Tensor

from pti.common.progress import track
from pti.data.batches import evaluation_batches
from pti.data.cache_age import mark_used, remove_unused
from pti.data.latent_cache import Encode, LatentCache, LatentDataset
from pti.networks.latent_scaling import LatentScaling


def build_cache(
    cache: LatentCache, encode: Encode, latent_shape: tuple[int, int, int], trainer: Trainer
) -> None:
    """Encode the views that are missing: every rank its share; the first makes the files and renames them."""
    lock = FileLock(f"{cache.folder}.lock")
    barrier = trainer.strategy.barrier
    if trainer.is_global_zero:
        cache.folder.parent.mkdir(parents=True, exist_ok=True)
        mark_used(cache.folder)
        remove_unused(cache.folder.parent)
        lock.acquire()  # another run may be building the same; then it is waited for
    try:
        barrier("latents: begin")
        for view in cache.missing():
            if trainer.is_global_zero:
                cache.create(view, latent_shape)
            barrier("latents: write")
            of = f", view {view + 1} of {cache.views}" if cache.views > 1 else ""
            shares = _shares(len(cache.dataset), trainer)
            cache.write(view, _shown(shares, f"Encoding the training set{of}", trainer), encode)
            barrier("latents: written")
            if trainer.is_global_zero:
                cache.finish(view)
            barrier("latents: whole")
    finally:
        if trainer.is_global_zero:
            lock.release()


def fit_scaling(
    scaling: LatentScaling, dataset: Any, encode: Encode, trainer: Trainer, sampled: bool
) -> None:
    """Shift and scale over the targets of the first view.

    The variance of a sample of the posterior is the variance of the means plus the mean of the variances.

    Args:
        scaling: what is fitted.
        dataset: `LatentDataset`, or the images as `TifDataset`, which are encoded then.
        encode: of a batch of images.
        trainer: knows the ranks.
        sampled: of samples of the posteriors; else of their means.
    """
    channels = scaling.shift.numel()
    sums = torch.zeros(2 * channels + 1, dtype=torch.float64)
    for mean, std in _targets(dataset, encode, trainer):
        mean, std = mean.cpu().double(), std.cpu().double()
        squares = (mean.square() + std.square() * sampled).sum((0, 2, 3))
        count = torch.tensor([mean.numel() / channels], dtype=torch.float64)
        sums += torch.cat([count, mean.sum((0, 2, 3)), squares])
    device = trainer.strategy.root_device
    dtype = torch.float32 if device.type == "mps" else torch.float64
    sums = trainer.strategy.reduce(sums.to(device, dtype), reduce_op="sum")
    assert isinstance(sums, Tensor)
    scaling.fit(sums[0], sums[1 : channels + 1], sums[channels + 1 :])


def _targets(dataset: Any, encode: Encode, trainer: Trainer) -> Iterator[tuple[Tensor, Tensor]]:
    for batch in _shown(_shares(len(dataset), trainer), "Measuring the latents", trainer):
        found = dataset.__getitems__([(0, index) for index in batch])
        if isinstance(dataset, LatentDataset):
            yield found["target_mean"], found["target_std"]
        else:
            _, mean, std = encode(found).unbind(1)
            yield mean, std


def _shares(samples: int, trainer: Trainer, batch_size: int = 8) -> list[list[int]]:
    return evaluation_batches(samples, batch_size, trainer.global_rank, trainer.world_size)


def _shown(batches: list[list[int]], what: str, trainer: Trainer) -> Any:
    return track(batches, what) if trainer.is_global_zero else batches
