"""Where a sweep goes: on in the folder of an earlier one that the same command began, or into a new one."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from pti.common.errors import UsageError
from pti.sweep.record import FINISHED, SWEEP_FILE, PlannedJob, Sweep, load_sweep, readable

LONGEST_NAME = 100


def plan_sweep(command: str, jobs: Sequence[PlannedJob], parent: Path, fresh: bool = False) -> Sweep:
    """The sweep to run: the newest one below ``parent`` that the same command began, or else a new one.

    The same means: the same command, and jobs of the same configuration; the new command may have further
    values of the same keys. A sweep with a finished job whose data have changed since is not gone on with.

    Args:
        command: the verb.
        jobs: what the command line asks for, in order.
        parent: folder of the sweeps.
        fresh: begin a new one in any case.
    """
    wanted = {job_name(job.overrides): job for job in jobs}
    earlier = [] if fresh else sorted(parent.glob(f"*/{SWEEP_FILE}"), reverse=True)
    for path in earlier:
        found = load_sweep(path.parent)
        if found is not None and _continues(command, wanted, found):
            return Sweep(path.parent, command, wanted)
    return Sweep(_unused(parent / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")), command, wanted)


def plan_sweep_in(folder: Path, command: str, jobs: Sequence[PlannedJob], fresh: bool = False) -> Sweep:
    """The same in a folder that the user chose.

    Raises:
        UsageError: another sweep is there already.
    """
    wanted = {job_name(job.overrides): job for job in jobs}
    found = load_sweep(folder)
    if found is not None and (fresh or not _continues(command, wanted, found)):
        raise UsageError(
            f"output_dir={folder}: found another sweep there (or one whose data have changed since), "
            "expected none, or one that this command began. Choose another output_dir."
        )
    return Sweep(folder, command, wanted)


def _continues(command: str, wanted: Mapping[str, PlannedJob], found: Sweep) -> bool:
    if found.command != command or not found.jobs.items() <= wanted.items():
        return False
    return all(found.is_finished(name) for name in found.jobs if found.status(name) == FINISHED)


def _unused(folder: Path) -> Path:
    """Two sweeps begun in one second get folders of their own."""
    number, candidate = 2, folder
    while candidate.exists():
        candidate = folder.with_name(f"{folder.name}_{number}")
        number += 1
    return candidate


@contextmanager
def exclusive(sweep: Sweep) -> Iterator[None]:
    """Hold the sweep's folder: a second process that runs the same sweep is told so.

    Raises:
        UsageError: another process holds it.
    """
    sweep.folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows: two starts at once are the user's own care
        yield
        return
    with open(sweep.folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{sweep.folder}: this sweep is being run by another process. Wait for it, or begin a new "
                "one beside it with new_sweep=true."
            ) from None
        yield


def job_name(overrides: Sequence[str]) -> str:
    """Name of a job's folder: ``model.kl_weight-1e-7+seed-2`` for two overrides.

    Such a name can be typed as part of a value (``ckpt=…``), where ``=`` and commas would need
    quotes. Other characters and great lengths give way to a hash.
    """
    text = "+".join(readable(override).replace("=", "-", 1) for override in overrides) or "job"
    safe = re.sub(r"[^\w.+-]+", "_", text, flags=re.ASCII)
    if safe == text and len(text) <= LONGEST_NAME:
        return text
    return f"{safe[: LONGEST_NAME - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
