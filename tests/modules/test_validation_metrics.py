import copy
import math

import pytest
import torch

from pti.modules.validation_metrics import RunningMeans

CPU = torch.device("cpu")


def started(*names: str) -> RunningMeans:
    means = RunningMeans(names)
    means.start(CPU)
    return means


def test_every_sample_of_every_rank_weighs_the_same():
    ranks = [started("a", "b", "never") for _ in range(3)]
    ranks[0].update("a", torch.tensor([1.0, 2.0, 3.0]))
    ranks[1].update("a", torch.tensor([10.0]))
    ranks[1].update("b", torch.tensor([math.nan, 4.0]), skip_nan=True)
    whole = copy.deepcopy(ranks[0])
    for rank in ranks[1:]:
        whole.merge_state(rank)
    assert whole.compute() == {"a": 4.0, "b": 4.0}


def test_a_diverged_model_is_not_hidden():
    means = started("a")
    means.update("a", torch.tensor([1.0, math.nan]))
    assert math.isnan(means.compute()["a"])


def test_sums_lose_nothing_and_start_anew():
    means = started("a")
    for _ in range(3):
        means.update("a", torch.full((1000,), 1e-8))
    means.update("a", torch.tensor([1e6]))
    assert means.compute()["a"] == pytest.approx((3e-5 + 1e6) / 3001, rel=1e-12)
    means.start(CPU)
    means.update("a", torch.tensor([2.0]))
    assert means.compute() == {"a": 2.0}
