"""The schedule's shape, accumulation windows, and means that ignore nothing."""

import functools
import itertools
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from pti.common.errors import UsageError
from pti.modules.optimization import (
    LrSchedule,
    accumulation_window,
    average_gradients,
    build_optimizer,
    clip_gradients,
    set_rate,
)


@pytest.mark.parametrize("decay", ["constant", "cosine", "linear"])
def test_schedule_rises_then_falls_to_its_end(decay):
    schedule = LrSchedule(warmup_steps=10, decay=decay, final_factor=0.1)
    factors = [schedule.factor(step, 100) for step in range(100)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[10] == 1
    assert all(a >= b for a, b in itertools.pairwise(factors[10:]))
    assert factors[-1] == pytest.approx(1 if decay == "constant" else 0.1)
    assert min(factors) > 0


def test_schedule_refuses_an_unknown_decay():
    with pytest.raises(UsageError, match="constant, cosine, linear or multistep"):
        LrSchedule(decay="step")  # pyright: ignore[reportArgumentType]


def test_multistep_falls_by_the_same_factor_at_each_milestone():
    schedule = LrSchedule(warmup_steps=2, decay="multistep", final_factor=0.01, milestones=(0.5, 0.8))
    factors = [schedule.factor(step, 10) for step in range(10)]
    assert factors == pytest.approx([0.5, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01])
    with pytest.raises(UsageError, match="max_epochs"):
        schedule.factor(0, math.inf)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"final_factor": 0.0}, "final_factor=0.0"),
        ({"milestones": ()}, "milestones"),
        ({"milestones": (0.8, 0.5)}, "ascending"),
        ({"milestones": (0.5, 1.5)}, "between 0 and 1"),
    ],
)
def test_milestones_that_mean_nothing_are_refused(settings, named):
    with pytest.raises(UsageError, match=named):
        LrSchedule(**{"decay": "multistep", "final_factor": 0.1, **settings})


def test_windows_of_an_epoch():
    windows = [accumulation_window(i, 3, 8) for i in range(8)]
    assert [w.size for w in windows] == [3, 3, 3, 3, 3, 3, 2, 2]
    assert [w.ends for w in windows] == [False, False, True] * 2 + [False, True]
    assert accumulation_window(7, 4, float("inf")).ends


def test_rates_scale_by_devices_and_by_schedule():
    optimizer = build_optimizer(functools.partial(torch.optim.Adam, lr=1e-3), nn.Linear(1, 1), rate_factor=4)
    set_rate(optimizer, 0.5)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(2e-3)


def test_on_the_cpu_all_tensors_are_updated_in_one_call_unless_told_otherwise():
    network = nn.Linear(1, 1)
    chosen = [{}, {"fused": False}, {"fused": None}]
    optimizers = [
        build_optimizer(functools.partial(torch.optim.Adam, **options), network) for options in chosen
    ]
    assert [optimizer.defaults["fused"] for optimizer in optimizers] == [True, False, None]
    scaled = build_optimizer(functools.partial(torch.optim.Adam), network, scaled=True)
    assert not scaled.defaults["fused"]
    assert build_optimizer(functools.partial(torch.optim.RMSprop, lr=0.1), network).defaults["lr"] == 0.1


def test_clipping_refuses_an_optimizer_that_unscales_itself():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    optimizer._step_supports_amp_scaling = True  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(UsageError, match="fused"):
        clip_gradients(optimizer, 1.0, scaler=object())


def test_gradients_are_averaged_in_one_reduction():
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1), torch.nn.Linear(1, 1))
    network[0].weight.grad = torch.ones(3, 2)
    network[1].bias.grad = torch.full((1,), 4.0)
    reduced = []

    def reduce(tensor, reduce_op):
        reduced.append((tensor.tolist(), reduce_op))
        return tensor / 2

    trainer: Any = SimpleNamespace(world_size=2, strategy=SimpleNamespace(reduce=reduce))
    average_gradients(network, trainer)
    assert reduced == [([1.0] * 6 + [4.0], "mean")]
    assert torch.equal(network[0].weight.grad, torch.full((3, 2), 0.5))
    assert network[1].bias.grad.item() == 2
    assert network[2].weight.grad is None
