"""Choice of a sweep's folder: that of an earlier sweep of the same command, or a new one."""

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pti.common.errors import UsageError
from pti.common.files import create_unused_folder
from pti.common.path_settings import setting
from pti.sweep.record import FINISHED, SWEEP_FILE, PlannedJob, Sweep, load_sweep, readable

_MAX_NAME = 100


def plan_sweep(
    command: str, jobs: dict[str, PlannedJob], folder: Path, *, chosen: bool = False, new: bool = False
) -> Sweep:
    """Return the sweep to run: an earlier one that the same command began, or a new one.

    Command and job configurations must be the same; the command may now have further values of the same keys.
    A sweep is not continued if the data of a finished job have changed since.

    Args:
        command: The verb.
        jobs: Name (`job_name`) -> job, in order.
        folder: Folder of the sweeps, where the newest one that fits is continued.
        chosen: ``folder`` is that of the sweep itself, which the user chose.
        new: Begin a new sweep in any case.

    Raises:
        UsageError: The chosen folder holds another sweep.
    """
    files = sorted(folder.glob(SWEEP_FILE if chosen else f"*/{SWEEP_FILE}"), reverse=True)
    earlier = [sweep for file in files if (sweep := load_sweep(file.parent)) is not None]
    for sweep in [] if new else earlier:
        if sweep.command == command and sweep.jobs.items() <= jobs.items() and _same_data(sweep):
            return Sweep(sweep.folder, command, jobs)
    if chosen and earlier:
        raise UsageError(
            f"{setting('output_dir', folder)}: found another sweep there (or one whose data have changed "
            "since), expected none, or one that this command began. Choose another output_dir."
        )
    if not chosen:
        folder = create_unused_folder(folder / datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
    return Sweep(folder, command, jobs)


def _same_data(sweep: Sweep) -> bool:
    return all(sweep.is_finished(name) for name in sweep.jobs if sweep.status(name) == FINISHED)


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
