"""Copies between CPU and device without waiting for all work that the device has been given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Move a tensor to a device, converted to ``dtype``, without waiting for the work queued there.

    An ordinary copy to a GPU waits until the GPU has done everything before it, and meanwhile nothing new is
    queued. The copy therefore comes from page-locked memory, which torch keeps until the copy is done.
    """
    tensor = tensor.to(dtype or tensor.dtype)
    if tensor.device.type == "cpu" and device.type == "cuda":
        tensor = tensor.pin_memory()
    # Memory that isn't page-locked may be reused before MPS has read it.
    return tensor.to(device, non_blocking=device.type not in ("cpu", "mps"))


def select(tensor: Tensor, rows: Sequence[int] | None) -> Tensor:
    """Select rows of a tensor, which may repeat, without waiting for its device; None = return the tensor."""
    if rows is None:
        return tensor
    return tensor.index_select(0, to_device(torch.tensor(rows), tensor.device))


def to_host(*tensors: Tensor) -> Callable[[], list[Tensor]]:
    """Start copying tensors to the CPU; return a function that waits for the copies and returns them."""
    behind = [tensor.device.type not in ("cpu", "mps") for tensor in tensors]
    copies = [tensor.to("cpu", non_blocking=later) for tensor, later in zip(tensors, behind, strict=True)]
    event = torch.cuda.Event() if any(tensor.is_cuda for tensor in tensors) else None
    if event is not None:
        event.record()

    def finished() -> list[Tensor]:
        if event is not None:
            event.synchronize()
        return copies

    return finished
