"""Choice of a sweep's folder: that of an earlier sweep of the same command, or a new one."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from pti.common.errors import UsageError
from pti.sweep.record import FINISHED, SWEEP_FILE, PlannedJob, Sweep, load_sweep, readable

_MAX_NAME = 100


def plan_sweep(command: str, jobs: Sequence[PlannedJob], parent: Path, new: bool = False) -> Sweep:
    """Return the sweep to run: the newest one below ``parent`` that the same command began, or a new one.

    Command and job configurations must be the same; the command may now have further values of the same keys.
    A sweep is not continued if the data of a finished job have changed since.

    Args:
        command: The verb.
        jobs: Jobs of the command line, in order.
        parent: Folder of the sweeps.
        new: Begin a new sweep in any case.
    """
    planned = {job_name(job.overrides): job for job in jobs}
    for path in [] if new else sorted(parent.glob(f"*/{SWEEP_FILE}"), reverse=True):
        earlier = load_sweep(path.parent)
        if earlier is not None and _continues(command, planned, earlier):
            return Sweep(path.parent, command, planned)
    return Sweep(_unused(parent / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")), command, planned)


def plan_sweep_in(folder: Path, command: str, jobs: Sequence[PlannedJob], new: bool = False) -> Sweep:
    """Return the sweep to run in a folder that the user chose.

    Raises:
        UsageError: The folder holds another sweep.
    """
    planned = {job_name(job.overrides): job for job in jobs}
    earlier = load_sweep(folder)
    if earlier is not None and (new or not _continues(command, planned, earlier)):
        raise UsageError(
            f"output_dir={folder}: found another sweep there (or one whose data have changed since), "
            "expected none, or one that this command began. Choose another output_dir."
        )
    return Sweep(folder, command, planned)


def _continues(command: str, planned: Mapping[str, PlannedJob], earlier: Sweep) -> bool:
    if earlier.command != command or not earlier.jobs.items() <= planned.items():
        return False
    return all(earlier.is_finished(name) for name in earlier.jobs if earlier.status(name) == FINISHED)


def _unused(folder: Path) -> Path:
    """Append a number if a sweep began in the same second."""
    number, candidate = 2, folder
    while candidate.exists():
        candidate = folder.with_name(f"{folder.name}_{number}")
        number += 1
    return candidate


def job_name(overrides: Sequence[str]) -> str:
    """Name a job's folder: ``model.kl_weight-1e-7+seed-2`` for two overrides.

    Such a name can be typed as part of a value (``ckpt=…``), where ``=`` and commas would need quotes. A hash
    replaces other characters and shortens long names.
    """
    text = "+".join(readable(override).replace("=", "-", 1) for override in overrides) or "job"
    safe = re.sub(r"[^\w.+-]+", "_", text, flags=re.ASCII)
    if safe == text and len(text) <= _MAX_NAME:
        return text
    return f"{safe[: _MAX_NAME - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
