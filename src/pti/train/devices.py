"""Training processes: how many there are, and what started them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pti.common.errors import UsageError

STARTED_BY = "PTI_LAUNCHER"
"""Environment variable of a rank that `pti.train.launch` started: the process id of the launcher."""


def started_from_outside() -> bool:
    """Return whether torchrun, SLURM or `pti.train.launch` started this process as one of several."""
    return "LOCAL_RANK" in os.environ or int(os.environ.get("SLURM_NTASKS", 1)) > 1


def started_by_launcher() -> bool:
    """Return whether `pti.train.launch` started this process."""
    return STARTED_BY in os.environ


def count_devices(trainer: Mapping[Any, Any]) -> int:
    """Count the processes on this machine that ``conf/trainer`` asks for.

    Args:
        trainer: ``accelerator`` and ``devices``, as Lightning's Trainer takes them.

    Raises:
        UsageError: this machine does not have the devices.
    """
    accelerator, devices = str(trainer.get("accelerator", "auto")), trainer.get("devices", "auto")
    use_all = devices in ("auto", -1, "-1")
    requested = 1 if use_all else int(devices) if isinstance(devices, (int, str)) else len(devices)
    if accelerator == "cpu" or (accelerator == "auto" and requested == 1 and not use_all):
        return requested
    import torch

    available = torch.cuda.device_count()
    if accelerator in ("gpu", "cuda") and not available and not torch.backends.mps.is_available():
        raise UsageError(f"trainer.accelerator={accelerator}: this machine has no GPU; choose trainer=cpu.")
    if available and requested > available:
        raise UsageError(
            f"trainer.devices={devices}: this machine has {available}; expected at most {available}."
        )
    return max(1, available) if use_all else requested


def cluster_overrides(output_dir: Path, chosen: bool) -> dict[str, str | Path]:
    """Place the processes that torchrun or SLURM started in one folder; each alone would use its own clock.

    Args:
        output_dir: the configured folder, named after the time.
        chosen: whether the command line sets ``output_dir``.

    Returns:
        Overrides by key; empty for a process that was started alone or by `pti.train.launch`.

    Raises:
        UsageError: the job has no id that could name the folder, and ``output_dir`` is not set.
    """
    if not started_from_outside() or started_by_launcher():
        return {}
    leading = int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0))) == 0
    overrides: dict[str, str | Path] = {} if leading else {"hydra.output_subdir": "null"}
    if chosen:
        return overrides
    job = os.environ.get("SLURM_JOB_ID") or os.environ.get("TORCHELASTIC_RUN_ID", "none")
    if job == "none":
        raise UsageError("Several processes were started: give them one folder with output_dir=FOLDER.")
    return {"output_dir": output_dir.with_name(f"job_{job}"), **overrides}
