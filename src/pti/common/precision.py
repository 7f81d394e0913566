"""Precision of a network's convolutions and matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pti.common.errors import UsageError

if TYPE_CHECKING:
    import torch  # imported where it is used: the precisions are also checked before it is loaded

PRECISIONS = ("float32", "tf32", "bf16")
"""Precisions of a denoiser or regression in translations; everything else is in float32."""

_AMPERE = (8, 0)
"""Compute capability of the first GPUs with TF32 and bfloat16."""


@contextmanager
def full_precision(deterministic: bool | None = None) -> Iterator[None]:
    """Compute float32 in float32 inside: GPUs since Ampere otherwise round convolutions to TF32, 10 bits.

    Args:
        deterministic: True makes convolutions repeat their bits and excludes the choice of kernels by timing;
            None keeps the settings of the process.
    """
    with _rounding("highest", False, deterministic):
        yield


@contextmanager
def in_float32(device: torch.device) -> Iterator[None]:
    """Compute in float32 inside, whatever the precision of the networks around."""
    import torch

    with torch.autocast(device.type, enabled=False), full_precision():
        yield


@contextmanager
def network_precision(precision: str, device: torch.device) -> Iterator[None]:
    """Compute networks in one of `PRECISIONS` inside, with convolutions that repeat their bits.

    What runs within `in_float32` stays in float32.
    """
    import torch

    rounds = precision == "tf32"
    with (
        _rounding("high" if rounds else "highest", rounds, deterministic=True),
        torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"),
    ):
        yield


def require_precision(precision: str, device: torch.device) -> None:
    """Refuse an unknown precision, and one that a device doesn't have.

    Raises:
        UsageError: The device can't compute in this precision.
    """
    import torch

    if precision not in PRECISIONS:
        raise UsageError(f"precision={precision}: expected one of {', '.join(PRECISIONS)}.")
    if has_precision(precision, device):
        return
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    gpus = "NVIDIA GPUs since Ampere (2020)"
    having = gpus if precision == "tf32" else f"CPUs and {gpus}"
    raise UsageError(
        f"precision={precision}: only {having} compute in it, and the device is {name}. Set "
        "precision=float32."
    )


def has_precision(precision: str, device: torch.device) -> bool:
    """Tell whether a device computes in one of `PRECISIONS`."""
    import torch

    if device.type == "cuda":
        return precision == "float32" or torch.cuda.get_device_capability(device) >= _AMPERE
    return precision == "float32" or (precision == "bf16" and device.type == "cpu")


@contextmanager
def _rounding(matmul: str, tf32: bool, deterministic: bool | None) -> Iterator[None]:
    """Set the precision of float32 on GPUs, as ``torch.set_float32_matmul_precision`` names it."""
    import torch

    cudnn, before = torch.backends.cudnn, torch.get_float32_matmul_precision()
    benchmark = cudnn.benchmark if deterministic is None else not deterministic
    deterministic = cudnn.deterministic if deterministic is None else deterministic
    torch.set_float32_matmul_precision(matmul)
    try:
        with cudnn.flags(
            enabled=cudnn.enabled, benchmark=benchmark, deterministic=deterministic, allow_tf32=tf32
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
