"""Precision as torch's settings say it, and as networks on a CPU have it."""

import pytest
import torch

from pti.common.errors import UsageError
from pti.common.precision import full_precision, in_float32, network_precision, require_precision

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


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    ("precision", "expected"),
    [("float32", ("highest", False)), ("tf32", ("high", True)), ("bf16", ("highest", False))],
)
def test_a_network_gets_the_precision_and_repeats_its_bits(precision, expected):
    before = settings()
    with network_precision(precision, torch.device("cpu")):
        assert settings() == (*expected, False, True)
        with full_precision():
            assert settings()[:2] == ("highest", False)
    assert settings() == before


def test_bf16_rounds_networks_and_leaves_out_what_asks_for_float32():
    layer, x, device = torch.nn.Linear(8, 8), torch.rand(4, 8), torch.device("cpu")
    exact = layer(x)
    with network_precision("bf16", device):
        assert layer(x).dtype == torch.bfloat16
        with in_float32(device):
            assert torch.equal(layer(x), exact)
    assert torch.equal(layer(x), exact)


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Test GPU")


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_old_gpus_only_compute_in_float32(monkeypatch, precision):
    device = torch.device("cuda")
    pretend_gpu(monkeypatch, (7, 5))
    require_precision("float32", device)
    with pytest.raises(UsageError, match=r"NVIDIA GPUs since Ampere.*Test GPU.*Set precision=float32"):
        require_precision(precision, device)
    pretend_gpu(monkeypatch, (9, 0))
    require_precision(precision, device)


@pytest.mark.parametrize(
    ("precision", "device"), [("tf32", "cpu"), ("tf32", "mps"), ("bf16", "mps"), ("fp16", "cpu")]
)
def test_what_a_device_lacks_is_refused(precision, device):
    with pytest.raises(UsageError, match=f"precision={precision}"):
        require_precision(precision, torch.device(device))
