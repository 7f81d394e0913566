"""Files of weights, and what of them fits a network, whatever precedes the names."""

import pytest
import torch
from torch import nn

from pti.common.errors import UsageError
from pti.runs.checkpoint import CheckpointError
from pti.runs.weights import match, open_weights


def network() -> nn.Module:
    return nn.ModuleDict({"first": nn.Linear(2, 3), "second": nn.Conv2d(1, 2, 3)})


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "state.vae."])
def test_any_prefix_is_found(prefix):
    state = network().state_dict()
    found = match({prefix + name: value for name, value in state.items()}, network().state_dict(), ["net."])
    assert found.prefix == prefix
    assert found.complete
    assert all(found.fitting[name] is state[name] for name in state)


def test_the_expected_prefix_wins():
    one, two = network().state_dict(), network().state_dict()
    tensors = {f"raw.{name}": value for name, value in one.items()}
    tensors |= {f"ema.{name}": value for name, value in two.items()}
    found = match(tensors, network().state_dict(), ["ema.", "raw."])
    assert found.fitting["first.weight"] is two["first.weight"]


def test_a_coincidence_is_no_match():
    tensors = {"other.bias": torch.zeros(3), "decoder.first.bias": torch.zeros(3)}
    found = match(tensors, network().state_dict(), ["net."])
    assert not found.fitting
    assert len(found.missing) == 4


def test_what_differs_is_said():
    tensors = network().state_dict() | {"first.bias": torch.zeros(5), "third.weight": torch.zeros(1)}
    del tensors["second.bias"]
    found = match(tensors, network().state_dict(), [""])
    assert found.other_shape == {"first.bias": ((5,), (3,))}
    assert found.missing == ("second.bias",)
    assert found.unused == ("third.weight",)
    assert not found.complete


def test_an_optimizers_state_holds_no_weights(tmp_path):
    net = network()
    adam = torch.optim.Adam(net.parameters())
    content = {"net": net.state_dict(), "optimizer": {"state": {"weight": torch.zeros(2)}}, "epoch": 3}
    torch.save(content | {"full": adam.state_dict()}, tmp_path / "all.pth")
    weights = open_weights(tmp_path / "all.pth")
    assert not any("optimizer" in name for name in weights.tensors)
    assert {f"net.{name}" for name in net.state_dict()} <= set(weights.tensors)
    assert weights.checkpoint is None


def test_files_that_hold_no_weights(tmp_path):
    (tmp_path / "text.pth").write_text("text")
    with pytest.raises(CheckpointError, match=r"expected a file of torch\.save"):
        open_weights(tmp_path / "text.pth")
    with pytest.raises(UsageError, match="no such checkpoint"):
        open_weights(tmp_path / "nowhere.pth")
