"""The latent cache: its content, the ingredients of its key, and its state after an interruption."""

import pickle
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.image_sets import WriteSet
from pti.common.errors import DataError
from pti.data.augment import Augmentation
from pti.data.dataset import Sample, TifDataset, samples_of
from pti.data.image_cache import FileImages
from pti.data.latent_cache import LatentCache, LatentDataset, cache_key
from pti.data.layouts import paired_folders

SHAPE = (1, 8, 8)


@pytest.fixture
def dataset(write_set: WriteSet) -> TifDataset:
    return pairs_of(write_set(patients=3, slices=2, size=16), Augmentation(horizontal_flip=0.5))


def pairs_of(root: Path, augmentation: Augmentation | None = None, seed: int = 0) -> TifDataset:
    pairs = paired_folders(root)
    return TifDataset(FileImages(pairs, 16), samples_of(list(enumerate(pairs)), "pairs"), augmentation, seed)


def encode(batch: dict[str, Any]) -> Tensor:
    """Halve the size; return both images as means, and a standard deviation."""
    condition, target = (batch[name][..., ::2, ::2] for name in ("condition", "target"))
    return torch.stack([condition, target, target.abs() + 1], dim=1)


def missing(cache: LatentCache) -> list[int]:
    return [view for view in range(cache.views) if not cache.array(view).exists]


def build(cache: LatentCache) -> None:
    for view in missing(cache):
        cache.create(view, SHAPE)
        cache.write(view, [[0, 1, 2, 3], [4, 5]], encode)
        cache.finish(view)


def test_epochs_are_served_from_the_views_in_turn(dataset: TifDataset, tmp_path: Path):
    cache = LatentCache(tmp_path / "key", dataset, views=2)
    build(cache)
    latents = LatentDataset(cache)
    assert len(latents) == 6
    for epoch in range(5):
        keys = [(epoch, index) for index in (4, 0, 3)]
        batch, images = latents.__getitems__(keys), dataset.__getitems__([(epoch % 2, i) for _, i in keys])
        expected = encode(images)
        for position, name in enumerate(("condition_mean", "target_mean", "target_std")):
            assert torch.equal(batch[name], expected[:, position])
            assert batch[name].dtype == torch.float32
        assert batch["name"] == images["name"]
        assert batch["patient"] == images["patient"]
    views = [latents[(epoch, 0)]["target_mean"] for epoch in range(6)]
    assert all(torch.equal(view, views[index % 2]) for index, view in enumerate(views))
    assert any(
        not torch.equal(latents[(0, i)]["target_mean"], latents[(1, i)]["target_mean"]) for i in range(6)
    )


def test_a_batch_may_mix_epochs(dataset: TifDataset, tmp_path: Path):
    cache = LatentCache(tmp_path / "key", dataset, views=2)
    build(cache)
    latents = LatentDataset(cache)
    mixed = latents.__getitems__([(0, 1), (1, 1)])["target_mean"]
    for epoch in (0, 1):
        assert torch.equal(mixed[epoch], latents[(epoch, 1)]["target_mean"][0])


def test_views_are_mapped_not_read(dataset: TifDataset, tmp_path: Path):
    cache = LatentCache(tmp_path / "key", dataset, views=1)
    build(cache)
    latents = LatentDataset(cache)
    first = latents[(0, 2)]["target_mean"]
    assert all(isinstance(view.values, np.memmap) for view in latents.views)
    sent = pickle.dumps(latents)
    assert len(sent) < 20_000
    assert torch.equal(pickle.loads(sent)[(0, 2)]["target_mean"], first)


def test_an_interrupted_build_continues_with_the_incomplete_view(dataset: TifDataset, tmp_path: Path):
    cache = LatentCache(tmp_path / "key", dataset, views=3)

    def interrupted() -> Iterator[list[int]]:
        yield [0, 1, 2]
        raise KeyboardInterrupt

    cache.create(0, SHAPE)
    cache.write(0, [[0, 1, 2, 3, 4, 5]], encode)
    cache.finish(0)
    cache.create(1, SHAPE)
    with pytest.raises(KeyboardInterrupt):
        cache.write(1, interrupted(), encode)
    assert missing(cache) == [1, 2]
    complete = cache.array(0).path.stat()
    build(cache)
    assert missing(cache) == []
    assert cache.array(0).path.stat().st_mtime_ns == complete.st_mtime_ns
    rows = np.load(cache.array(1).path)
    assert np.array_equal(rows, encode(dataset.__getitems__([(1, i) for i in range(6)])).numpy())
    assert sorted(path.name for path in cache.folder.iterdir()) == [f"view_00{view}.npy" for view in range(3)]


def test_processes_write_different_rows(dataset: TifDataset, tmp_path: Path):
    shared, alone = (LatentCache(tmp_path / name, dataset, views=1) for name in ("shared", "alone"))
    build(alone)
    shared.create(0, SHAPE)
    for rank in (0, 1):
        shared.write(0, [list(range(rank, 6, 2))], encode)
    shared.finish(0)
    assert shared.array(0).path.read_bytes() == alone.array(0).path.read_bytes()


def test_the_key_changes_with_every_ingredient(write_set: WriteSet):
    root = write_set(patients=3, slices=2, size=16)
    numbers = {"horizontal_flip": 0.5, "affine": 0.5}
    without, augmented = pairs_of(root), pairs_of(root, Augmentation(**numbers))
    key = cache_key(without, "autoencoder", "data")
    assert cache_key(pairs_of(root), "autoencoder", "data") == key
    assert (
        cache_key(pairs_of(root, seed=1), "autoencoder", "data") == key
    )  # without an augmentation, the seed changes no image
    fewer = pairs_of(root)
    fewer.samples = fewer.samples[1:]
    other_order = pairs_of(root)
    other_order.samples = other_order.samples[::-1]
    renamed = pairs_of(root)
    renamed.samples = [Sample("x", "y", 0, ("condition", "target")), *renamed.samples[1:]]
    keys = [
        key,
        cache_key(without, "another autoencoder", "data"),
        cache_key(without, "autoencoder", "other data"),
        cache_key(augmented, "autoencoder", "data"),
        cache_key(pairs_of(root, Augmentation(**numbers), seed=1), "autoencoder", "data"),
        *(cache_key(each, "autoencoder", "data") for each in (fewer, other_order, renamed)),
    ]
    for name, value in vars(Augmentation(**numbers)).items():
        changed = pairs_of(root, Augmentation(**{**numbers, name: value + 0.01}))
        keys.append(cache_key(changed, "autoencoder", "data"))
    assert len(set(keys)) == len(keys)


def test_the_message_of_a_full_disk_names_the_settings_that_help(dataset: TifDataset, tmp_path: Path):
    cache = LatentCache(tmp_path / "key", dataset, views=1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        with pytest.raises(DataError) as caught:
            cache.create(0, (4, 512, 512))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    message = str(caught.value)
    assert str(cache.folder) in message
    assert "72 MB" in message
    assert "data.cache_dir" in message
    assert "model.cache_latents=false" in message
    assert list(cache.folder.iterdir()) == []


def test_an_unusable_folder_is_named(dataset: TifDataset, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file.*can't be cached.*data\.cache_dir"):
        LatentCache(tmp_path / "file" / "key", dataset, views=1).create(0, SHAPE)
