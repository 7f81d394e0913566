"""Batches: every sample once per epoch, on any number of ranks."""

import re
from itertools import chain, product

import pytest

from pti.data.batches import evaluation_batches, too_few_samples, training_batches


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("samples", [6, 7, 12, 13, 14, 15, 41])
def test_every_sample_once_and_equal_numbers_of_batches(samples: int, world_size: int) -> None:
    ranks = [training_batches(samples, 2, 0, 3, rank, world_size) for rank in range(world_size)]
    assert sorted(chain(*chain(*ranks))) == list(range(samples))
    assert len({len(batches) for batches in ranks}) == 1
    assert all(batch for batches in ranks for batch in batches)
    assert max(len(batch) for batches in ranks for batch in batches) <= 3


def test_global_batches_depend_on_the_product_alone() -> None:
    one = training_batches(40, 8, 5, 2)
    two = [training_batches(40, 4, 5, 2, rank, 2) for rank in (0, 1)]
    assert [sorted(batch) for batch in one] == [sorted(a + b) for a, b in zip(*two, strict=True)]


def test_order_depends_on_seed_and_epoch() -> None:
    orders = {tuple(chain(*training_batches(30, 4, seed, epoch))) for seed in (0, 1) for epoch in (0, 1, 2)}
    assert len(orders) == 6
    # A fixed value: another order would break the resumption of existing runs.
    assert training_batches(6, 3, 0, 0) == [[1, 5, 3], [2, 4, 0]]


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_evaluation_neither_pads_nor_drops(world_size: int) -> None:
    ranks = [evaluation_batches(5, 2, rank, world_size) for rank in range(world_size)]
    assert sorted(chain(*chain(*ranks))) == list(range(5))


def test_the_remedy_for_too_few_samples_is_enough():
    for samples, batch_size, devices in product(range(12), range(1, 7), range(1, 5)):
        few = too_few_samples(samples, batch_size, devices)
        assert (few is None) == (samples >= batch_size * devices)
        if few is not None and samples > 0:
            advised = dict(re.findall(r"([\w.]+)=(\d+)", few[1]))
            assert advised
            batch_size = int(advised.get("data.batch_size", batch_size))
            devices = int(advised.get("trainer.devices", devices))
            assert too_few_samples(samples, batch_size, devices) is None
    assert too_few_samples(0, 1, 1) == ("only 0 training samples, fewer than one batch of 1", "Add images.")
