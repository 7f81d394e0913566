"""Precision of a GPU's convolutions and matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_precision(deterministic: bool | None = None) -> Iterator[None]:
    """Compute float32 in float32 inside: GPUs since Ampere otherwise round convolutions to TF32, 10 bits.

    Args:
        deterministic: True makes convolutions repeat their bits and excludes the choice of kernels by timing;
            None keeps the settings of the process.
    """
    cudnn, matmul = torch.backends.cudnn, torch.get_float32_matmul_precision()
    benchmark = cudnn.benchmark if deterministic is None else not deterministic
    deterministic = cudnn.deterministic if deterministic is None else deterministic
    torch.set_float32_matmul_precision("highest")
    try:
        with cudnn.flags(
            enabled=cudnn.enabled, benchmark=benchmark, deterministic=deterministic, allow_tf32=False
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(matmul)
