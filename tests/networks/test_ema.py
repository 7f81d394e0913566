"""The moving average: pace, what it averages, and its way through a checkpoint."""

import pytest
import torch
from torch import nn

from pti.networks.ema import Ema


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def moved(net: nn.Module, by: float) -> None:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += by


def test_follows_the_formula():
    net = network()
    ema = Ema(net, decay=0.5)
    expected = [p.detach().clone() for p in net.parameters()]
    for step in range(1, 8):
        moved(net, 1.0)
        ema.update(net)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = [
            decay * e + (1 - decay) * p.detach() for e, p in zip(expected, net.parameters(), strict=True)
        ]
    for average, weight in zip(ema.model.parameters(), expected, strict=True):
        torch.testing.assert_close(average, weight)


@pytest.mark.parametrize("every", [2, 10])
def test_update_every_keeps_the_pace(every: int):
    net = network()
    often, seldom = Ema(net, 0.9), Ema(net, 0.9, update_every=every)
    often.steps = seldom.steps = 10_000  # past the first steps, where the decay is lower
    moved(net, 1.0)
    for _ in range(20):
        often.update(net)
        seldom.update(net)
    for a, b in zip(often.model.parameters(), seldom.model.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_integer_buffers_are_copied_not_averaged():
    net = network()
    ema = Ema(net, 0.9)
    net.train()(torch.randn(2, 1, 5, 5))
    ema.update(net)
    assert ema.model.state_dict()["1.num_batches_tracked"] == 1


def test_stays_frozen_and_in_evaluation_mode():
    ema = Ema(network(), 0.9).train()
    assert not any(p.requires_grad for p in ema.parameters())
    assert not any(m.training for m in ema.modules())


def test_checkpoint_restores_weights_and_pace():
    net = network()
    ema, copy = Ema(net, 0.9), Ema(network(), 0.9)
    moved(net, 1.0)
    ema.update(net)
    copy.load_state_dict(ema.state_dict())
    moved(net, 1.0)
    ema.update(net)
    copy.update(net)
    assert copy.steps == 2
    assert all(torch.equal(a, b) for a, b in zip(ema.parameters(), copy.parameters(), strict=True))


@pytest.mark.parametrize("arguments", [{"decay": 1.0}, {"decay": 0.9, "update_every": 0}])
def test_refuses_impossible_numbers(arguments: dict):
    with pytest.raises(ValueError, match="expected a number"):
        Ema(network(), **arguments)
