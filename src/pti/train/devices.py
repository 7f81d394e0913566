"""Training processes: how many there are, and what started them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pti.common.errors import UsageError
from pti.train.requeue import job_id

STARTED_BY = "PTI_LAUNCHER"
"""Environment variable of a rank that `pti.train.launch` started: the process id of the launcher."""

_NUMBERS = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK"),
    *(
        "SLURM_NTASKS",
        "SLURM_NTASKS_PER_NODE",
        "SLURM_NNODES",
        "SLURM_PROCID",
        "SLURM_LOCALID",
        "SLURM_NODEID",
    ),
)
"""Variables of torchrun and SLURM that Lightning or this program read as whole numbers."""


def started_from_outside() -> bool:
    """Return whether torchrun, SLURM or `pti.train.launch` started this process as one of several."""
    return "LOCAL_RANK" in os.environ or _slurm_tasks() > 1


def _slurm_tasks() -> int:
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")  # Lightning's rule
    return 1 if interactive else int(os.environ.get("SLURM_NTASKS", 1))


def check_environment(trainer: Mapping[Any, Any]) -> None:
    """Refuse variables of SLURM or torchrun that don't fit the way in which this process was started.

    Args:
        trainer: ``conf/trainer``, composed.

    Raises:
        UsageError: a variable is not a number, or SLURM's tasks are not started as Lightning expects.
    """
    for name in _NUMBERS:
        value = os.environ.get(name)
        if value is not None and not value.isdecimal():
            raise UsageError(
                f"{name}={value}: expected a whole number in this variable of the environment, as SLURM or "
                f"torchrun sets it. Outside of them, run `unset {name}` first."
            )
    tasks = _slurm_tasks()
    if "LOCAL_RANK" in os.environ or tasks == 1:
        return
    if "SLURM_STEP_ID" not in os.environ:
        raise UsageError(
            f"SLURM_NTASKS={tasks}: the job has {tasks} tasks, but this process was not started by srun. "
            "Start it with `srun python -m pti.train …`, or request one task (--ntasks=1)."
        )
    if "SLURM_NTASKS_PER_NODE" not in os.environ:
        raise UsageError(
            f"SLURM_NTASKS={tasks}: the tasks of each node are not set. Request them with "
            "--ntasks-per-node=N, one for each device, instead of --ntasks."
        )
    per_node, nodes = (int(os.environ.get(name, 1)) for name in ("SLURM_NTASKS_PER_NODE", "SLURM_NNODES"))
    for key, value, expected in (
        ("devices", trainer.get("devices", "auto"), per_node),
        ("num_nodes", trainer.get("num_nodes", 1), nodes),
    ):
        if value not in ("auto", expected):
            raise UsageError(
                f"trainer.{key}={value}: SLURM's tasks per node: {per_node}, nodes: {nodes}. Set "
                f"{'' if key in trainer else '+'}trainer.{key}={expected}, or request other tasks."
            )


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
        raise UsageError(
            f"trainer.accelerator={accelerator}: this machine has no GPU. Set trainer.accelerator=cpu."
        )
    if available and requested > available:
        raise UsageError(
            f"trainer.devices={devices}: this machine has {available}; expected at most {available}."
        )
    return max(1, available) if use_all else requested


def is_leading() -> bool:
    """Return whether this process is rank 0, or the only one."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0))) == 0


def cluster_overrides(output_dir: Path, chosen: bool, resumes: bool = False) -> dict[str, str | Path]:
    """Place a run in a folder that is named after its job, if the time of the start cannot name it.

    Processes that torchrun or SLURM started would each use their own clock; a run that resumes itself has to
    find its folder again.

    Args:
        output_dir: the configured folder, named after the time.
        chosen: whether the command line sets ``output_dir``.
        resumes: whether the same command line continues the run (``resume=auto``).

    Returns:
        Overrides by key; empty if the configured folder is right.

    Raises:
        UsageError: the job has no id that could name the folder, and ``output_dir`` is not set.
    """
    several = started_from_outside() and not started_by_launcher()
    overrides: dict[str, str | Path] = {} if is_leading() or not several else {"hydra.output_subdir": "null"}
    if chosen or not (several or resumes):
        return overrides
    job = job_id()
    if job is None and several:
        raise UsageError("Several processes were started: give them one folder with output_dir=FOLDER.")
    if job is None:
        raise UsageError(
            "resume=auto: found no job of SLURM or torchrun that could name the run's folder. Set "
            "output_dir=FOLDER: the run starts there, and the same command line continues it."
        )
    return {"output_dir": output_dir.with_name(f"job_{job}"), **overrides}
