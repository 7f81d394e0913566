"""Devices for trials that run at the same time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pti.common.processes import usable_cpus

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def environments(jobs: int | str, trainer: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the environment variables of each of the trials that run at a time.

    A single trial at a time keeps all devices. Several get one GPU each, in turn; without a GPU, each gets
    its share of the CPU's cores.

    Args:
        jobs: Number of trials at a time; ``auto`` = one for each GPU.
        trainer: ``conf/trainer``, composed.
    """
    if jobs == 1:
        return [{}]
    gpus = [] if trainer.get("accelerator") == "cpu" else visible_gpus()
    count = int(jobs) if jobs != "auto" else max(1, len(gpus))
    if count == 1:
        return [{}]
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(max(1, usable_cpus() // count))}
    return [{**threads, **({_VISIBLE: gpus[slot % len(gpus)]} if gpus else {})} for slot in range(count)]


def visible_gpus() -> list[str]:
    """Return the names of the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` takes them."""
    import torch

    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get(_VISIBLE, "").split(",") if name.strip()]
    return named[:count] if named else [str(index) for index in range(count)]
