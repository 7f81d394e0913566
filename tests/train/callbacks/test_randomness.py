"""Random generators."""

import random
from typing import Any

import numpy as np
import torch

from pti.train.callbacks.randomness import capture_generators, restore_generators, seed_generators


def test_restored_generators_continue_their_sequence():
    def draw() -> list[Any]:
        return [random.random(), np.random.rand(), np.random.randn(), torch.rand(3).tolist()]  # noqa: NPY002

    seed_generators(3)
    draw()
    state = capture_generators()
    expected = draw()
    restore_generators(state)
    assert draw() == expected
