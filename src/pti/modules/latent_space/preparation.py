"""Encode the training set of a second stage once and measure its latents, on all ranks together."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from random import SystemRandom
from typing import Any

import numpy as np
import torch
from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from pti.common.errors import DataError
from pti.common.progress import track
from pti.common.randomness import keyed_generator
from pti.data.batches import evaluation_batches
from pti.data.dataset import TifDataset
from pti.data.latent_cache import Encode, LatentCache, LatentDataset, cache_key
from pti.data.memory_maps import mark_used, remove_unused
from pti.data.splits import evenly_spaced
from pti.diffusion.samplers import gaussian_noise
from pti.metrics.changed_region import changed_region
from pti.modules.latent_space import LatentSpace
from pti.modules.tif_data import TifDataModule
from pti.networks.latent_scaling import LatentScaling
from pti.runs.lock import exclusive

_TEXTURE_IMAGES = 64
"""Images that the texture is measured on, at most: a few hundred thousand pixels."""

_SENSITIVITY_IMAGES = 8
"""Images that the decoder's response to its latents is measured on, at most."""

_PERTURBATION = 0.1
"""Standard deviation of the noise that is added to a channel, in standard deviations of the latents.

Other values were not tried.
"""

_SMALLEST_WEIGHT = 0.02
"""Smallest weight of a channel, of the mean weight: samples start with noise in every channel.

Other values were not tried.
"""

_BATCH = 8

_LOG = logging.getLogger(__name__)

_LOCK_POLL_S = 1.0
"""Seconds, on average, until the ranks try again to lock a cache that another run builds."""


def prepare_latents(space: LatentSpace, data: TifDataModule, trainer: Trainer) -> None:
    """Fill the latent cache and fit the scaling, where that is not done yet.

    Args:
        space: its scaling is fitted on the targets of the first view.
        data: gets the cached latents as its training set.
        trainer: provides the device and the ranks.
    """

    def encode(batch: dict[str, Any]) -> Tensor:
        device = trainer.strategy.root_device
        return space.stacked_posteriors({name: batch[name].to(device) for name in ("condition", "target")})

    images, latents = data.training_set(), None
    if space.cache:
        count = _views_to_encode(space.views, trainer.max_epochs) if images.augmentation is not None else 1
        key = cache_key(images, space.first_stage.fingerprint(), data.fingerprint)
        files = _of_this_node(LatentCache(data.cache_dir / "latents" / key, images, count), trainer)
        size = data.image_size // space.first_stage.downsampling
        build_cache(files, encode, (space.first_stage.latent_channels, size, size), trainer)
        latents = data.latents = LatentDataset(files)
    if space.texture is not None and not space.texture.fitted:
        space.texture.fit(_reconstructed(space, replace(images, augmentation=None), trainer))
    if not space.scaling.fitted:
        fit_scaling(space.scaling, latents or images, encode, trainer, space.sample_posterior)
        scale = ", ".join(f"{value:.3g}" for value in space.scaling.scale.flatten())
        rank_zero_only(print)(f"Standard deviation of the latents, by channel: {scale}")


def _reconstructed(
    space: LatentSpace, images: TifDataset, trainer: Trainer
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield some normalised targets, their reconstructions, and where they differ from their conditions.

    All are (H, W), background 0, and the same on all ranks.
    """
    device = trainer.strategy.root_device
    for index in track(evenly_spaced(list(range(len(images))), _TEXTURE_IMAGES), "Measuring texture"):
        batch = images[0, index]
        changed = changed_region(*(batch[role][0, 0].numpy() for role in ("condition", "target")))
        raw = batch["target"].to(device)
        statistics = space.normalization.statistics(raw)
        decoded = space.first_stage.decode_normalized(space.first_stage.encode(raw, statistics).mean)
        tissue = (raw != 0) & (space.normalization.denormalize(decoded, statistics) != 0)
        pair = (space.normalization.normalize(raw, statistics), decoded)
        own, reconstructed = (image.masked_fill(~tissue, 0).float().cpu().numpy()[0, 0] for image in pair)
        yield own, reconstructed, changed


@torch.no_grad()
def channel_weights(space: LatentSpace, images: TifDataset, device: torch.device) -> Tensor:
    """Measure how much the decoded image changes with each latent channel.

    Args:
        space: its scaling is fitted.
        images: the training set.
        device: of the result.

    Returns:
        (C,) weights with a mean of 1, in proportion to the mean squared change of the decoded image when
        noise is added to one scaled channel; none far below `_SMALLEST_WEIGHT`.
    """
    images = replace(images, augmentation=None)
    raws = [
        images[0, index]["target"] for index in evenly_spaced(list(range(len(images))), _SENSITIVITY_IMAGES)
    ]
    raw = torch.cat(raws).to(device)
    latents = space.encode_condition(raw)

    def decode(scaled: Tensor) -> Tensor:
        return space.first_stage.decode_normalized(space.scaling.denormalize(scaled))

    decoded, changes = decode(latents), []
    for channel in range(latents.shape[1]):
        generators = [keyed_generator("cpu", channel, index) for index in range(len(raw))]
        moved = latents.clone()
        moved[:, channel] += _PERTURBATION * gaussian_noise(latents[:, :1], generators)[:, 0]
        changes.append((decode(moved) - decoded).square().mean())
    weights = torch.stack(changes)
    weights = (weights / weights.mean().clamp_min(torch.finfo(weights.dtype).tiny)).clamp_min(
        _SMALLEST_WEIGHT
    )
    return weights / weights.mean()


def _views_to_encode(views: int, epochs: int | None) -> int:
    """Limit the views to the number of epochs; None and −1 epochs mean no end."""
    return views if epochs in (None, -1) else min(views, epochs)


def _of_this_node(cache: LatentCache, trainer: Trainer) -> LatentCache:
    """Return the cache that this node reads: a complete one of an earlier run, or the node's.

    A file that one node writes appears on the others after a time that depends on their mounts, and nodes
    that write into one memory map lose each other's rows. Therefore each node encodes everything itself,
    under a name that no other node of the run uses, on local and shared disks alike.
    """
    if trainer.num_nodes == 1 or _holds_on_this_node(cache.is_complete, trainer):
        return cache
    key = f"{cache.folder.name}/{trainer.node_rank}/{trainer.num_nodes}"
    return replace(cache, folder=cache.folder.parent / hashlib.sha256(key.encode()).hexdigest()[:24])


def build_cache(
    cache: LatentCache, encode: Encode, latent_shape: tuple[int, int, int], trainer: Trainer
) -> None:
    """Encode the missing views: each rank encodes its share; one rank of each node creates and renames files.

    The ranks of a node share its view of the disk, and take the same decisions.
    """
    barrier, leads = trainer.strategy.barrier, trainer.local_rank == 0
    with ExitStack() as held:
        if leads:
            cache.folder.parent.mkdir(parents=True, exist_ok=True)
            mark_used(cache.folder)
            remove_unused(cache.folder.parent)
        _lock_together(held, cache.folder, trainer)
        for view in range(cache.views):
            missing = not _holds_on_this_node(cache.array(view).exists, trainer)
            if trainer.strategy.reduce_boolean_decision(not missing, all=True):
                continue
            if leads and missing:
                cache.create(view, latent_shape)
            barrier("latents: write")
            if missing:
                of = f", view {view + 1} of {cache.views}" if cache.views > 1 else ""
                shares = _shares(len(cache.dataset), f"Encoding the training set{of}", trainer, of_node=True)
                cache.write(view, shares, encode)
            barrier("latents: written")
            if leads and missing:
                cache.finish(view)
            barrier("latents: whole")


def _lock_together(held: ExitStack, folder: Path, trainer: Trainer) -> None:
    """Lock the caches of all nodes, or none and try again.

    If a node kept its lock while it waited for another node, two runs on the same nodes could deadlock.
    """
    message = f"Waiting for another run that encodes the same latents: {folder}."
    warned = False
    while True:
        with ExitStack() as attempt:
            locked = True
            if trainer.local_rank == 0:
                try:
                    attempt.enter_context(exclusive(folder, message))
                except DataError:
                    locked = False
            if trainer.strategy.reduce_boolean_decision(locked, all=True):
                held.push(attempt.pop_all())
                return
        if not locked and not warned:
            _LOG.warning(message)
            warned = True
        # `random` would disturb the training's state. Random pauses let one of two runs win.
        time.sleep(SystemRandom().uniform(0.5, 1.5) * _LOCK_POLL_S)


def _holds_on_this_node(condition: bool, trainer: Trainer) -> bool:
    """Return whether a condition holds on all ranks of this node; the same on each of them."""
    if trainer.world_size == 1:
        return condition
    flag = torch.tensor(condition, dtype=torch.int32, device=trainer.strategy.root_device)
    by_rank = trainer.strategy.all_gather(flag).reshape(-1, trainer.num_devices)
    return bool(by_rank[trainer.node_rank].all())


def fit_scaling(
    scaling: LatentScaling,
    dataset: LatentDataset | TifDataset,
    encode: Encode,
    trainer: Trainer,
    sampled: bool,
) -> None:
    """Fit shift and scale to the targets of the first view.

    The variance of samples of the posterior is the variance of the means plus the mean of the variances.

    Args:
        scaling: fitted in place.
        dataset: cached latents, or images, which are then encoded.
        encode: encodes a batch of images.
        trainer: provides the device and the ranks.
        sampled: scale samples of the posteriors; False scales their means.
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


def _targets(
    dataset: LatentDataset | TifDataset, encode: Encode, trainer: Trainer
) -> Iterator[tuple[Tensor, Tensor]]:
    for batch in _shares(len(dataset), "Measuring the latents", trainer):
        samples = dataset.__getitems__([(0, index) for index in batch])
        if isinstance(dataset, LatentDataset):
            yield samples["target_mean"], samples["target_std"]
        else:
            _, mean, std = encode(samples).unbind(1)
            yield mean, std


def _shares(samples: int, description: str, trainer: Trainer, of_node: bool = False) -> Iterable[list[int]]:
    """List this rank's batches of indices, a share of all ranks' or of its node's; rank 0 shows progress."""
    rank, ranks = trainer.global_rank, trainer.world_size
    if of_node:
        rank, ranks = trainer.local_rank, trainer.num_devices
    batches = evaluation_batches(samples, _BATCH, rank, ranks)
    return track(batches, description) if trainer.is_global_zero else batches
