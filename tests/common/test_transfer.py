"""Copies between CPU and device."""

import pytest
import torch

from helpers.device_waits import no_waiting
from pti.common.transfer import to_device, to_host


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16])
def test_a_copy_has_the_same_values(dtype):
    tensor = torch.rand(2, 3, dtype=torch.float64)
    found = to_device(tensor, torch.device("cpu"), dtype)
    assert torch.equal(found, tensor.to(dtype or torch.float64))
    assert found.dtype == (dtype or torch.float64)


def test_nothing_waits_for_a_copy():
    with no_waiting():
        moved = to_device(torch.rand(3), torch.device("meta"), torch.bfloat16)
        assert (moved.device.type, moved.dtype) == ("meta", torch.bfloat16)
        assert [copy.device.type for copy in to_host(moved, moved)()] == ["cpu", "cpu"]


def test_copies_to_the_cpu_arrive():
    tensors = [torch.rand(2, 3), torch.arange(4)]
    assert all(torch.equal(*pair) for pair in zip(to_host(*tensors)(), tensors, strict=True))
