"""Detection of weights that are not finite."""

from typing import Any

import torch

from pti.train.callbacks.finite import weights_are_finite


def test_infinite_weights_are_detected():
    module: Any = torch.nn.Linear(2, 2)
    assert weights_are_finite(module)
    module.bias.data[1] = torch.inf
    assert not weights_are_finite(module)
