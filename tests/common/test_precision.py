"""Precision of a GPU, as torch's settings say it."""

import pytest
import torch

from pti.common.precision import full_precision

cudnn = torch.backends.cudnn


def settings():
    return torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic


@pytest.fixture
def fast():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    with cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=True):
        yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(("deterministic", "convolutions"), [(None, (True, False)), (True, (False, True))])
def test_nothing_is_rounded_inside_and_nothing_has_changed_after(deterministic, convolutions):
    before = settings()
    with full_precision(deterministic):
        assert settings() == ("highest", False, *convolutions)
    assert settings() == before
