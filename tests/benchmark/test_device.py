"""FLOPs, memory and the rate of matrix products."""

import sys

import pytest
import torch

from pti.benchmark.device import count_flops, describe_machine, matmul_rates, peak_process_mb


def test_flops_include_the_backward_pass():
    weight, image = torch.ones(4, 2, 3, 3, requires_grad=True), torch.ones(1, 2, 8, 8)
    forward = 2 * 4 * 2 * 9 * 6 * 6
    assert count_flops(lambda: torch.conv2d(image, weight)) == forward
    assert count_flops(lambda: torch.conv2d(image, weight).sum().backward()) == 2 * forward


def test_peak_memory_is_that_of_the_command_alone():
    block = bytearray(300_000_000)
    small = peak_process_mb([sys.executable, "-c", "pass"])
    large = peak_process_mb([sys.executable, "-c", "bytearray(200_000_000)"])
    assert small < 100 < 200 < large < len(block) / 1e6


def test_a_failing_command_is_reported():
    with pytest.raises(RuntimeError, match="what happened"):
        peak_process_mb([sys.executable, "-c", "raise ValueError('what happened')"])


@pytest.mark.slow
def test_the_rate_of_matrix_products_is_measured():
    rates = matmul_rates(torch.device("cpu"))
    assert list(rates) == ["float32"]
    assert rates["float32"] > 0


def test_the_machine_is_described():
    machine = describe_machine(torch.device("cpu"))
    assert machine["device"] == "cpu"
    assert machine["cpus"] >= 1
