"""Batches: every sample once per epoch, on any number of ranks."""

from itertools import chain

import pytest

from pti.data.batches import evaluation_batches, training_batches


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
