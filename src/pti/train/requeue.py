"""Runs that are stopped and started again with the same command line, such as the jobs of a cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pti.cli.storage import require_writable
from pti.common.errors import DataError
from pti.common.files import create_unused_folder
from pti.common.path_settings import setting
from pti.runs.locate import LAST, PREVIOUS
from pti.train.resume import find_changes

REQUEUE_SIGNAL = getattr(signal, "SIGUSR1", signal.SIGTERM)  # Windows has no SIGUSR1
STOP_SIGNALS = tuple(dict.fromkeys((signal.SIGTERM, signal.SIGINT, REQUEUE_SIGNAL)))
"""Signals that stop training after a checkpoint; the exit code is 128 + the signal."""

_LENGTH = ("trainer.max_epochs", "trainer.max_steps", "trainer.max_time")


def job_id() -> str | None:
    """Return the id of the cluster's job, which a requeued job keeps; None outside a job."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    if array and task:
        return f"{array}_{task}"
    elastic = os.environ.get("TORCHELASTIC_RUN_ID", "none")  # "none": torchrun without --rdzv-id
    return os.environ.get("SLURM_JOB_ID") or (None if elastic == "none" else elastic)


def was_requeued() -> bool:
    """Return whether SLURM has started this job before."""
    return os.environ.get("SLURM_RESTART_COUNT", "0") not in ("", "0")


def checkpoint_of(run_dir: Path) -> str | None:
    """Return the path of the checkpoint that a run in this folder continues; None if there is none."""
    paths = [run_dir / "checkpoints" / name for name in (LAST, PREVIOUS)]
    return next((str(path.absolute()) for path in paths if path.is_file()), None)


def saved_config(run_dir: Path) -> Path | None:
    """Return the composed configuration with which the run in this folder finished; None if it has not."""
    with suppress(OSError, ValueError, AttributeError):
        if json.loads((run_dir / "summary.json").read_text(encoding="utf-8")).get("status") == "finished":
            paths = [*(run_dir / ".hydra").glob("config.yaml"), *(run_dir / ".hydra").glob("*/config.yaml")]
            return max(paths, key=lambda path: path.stat().st_mtime_ns, default=None)
    return None


def leads_to_the_same(old: Mapping[str, Any], new: dict[str, Any]) -> bool:
    """Return whether two composed configurations train the same model for the same time."""
    lengths = [[config["trainer"].get(key.split(".")[1]) for key in _LENGTH] for config in (old, new)]
    return lengths[0] == lengths[1] and not find_changes({"config": dict(old)}, new, world_size=1)


def create_folder(folder: Path) -> Path:
    """Create a folder that no other run uses; see `create_unused_folder`.

    Raises:
        DataError: the folder cannot be created.
    """
    try:
        return create_unused_folder(folder)
    except OSError as error:
        require_writable(folder)
        raise DataError(f"{setting('output_dir', folder)}: can't be created ({error.strerror}).") from error


def requeue(resumable: bool) -> None:
    """Put this SLURM job back into the queue, or print why that is impossible; do nothing outside SLURM.

    Args:
        resumable: whether the same command line continues the run.
    """
    job = job_id()
    if "SLURM_JOB_ID" not in os.environ or job is None:
        return
    if not resumable:
        print(
            f"Job {job} is not requeued: the same command line would start a new run. Add resume=auto.",
            file=sys.stderr,
        )
        return
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60)
        problem = done.stderr.strip() or f"exit code {done.returncode}" if done.returncode else None
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    text = (
        f"Job {job} is requeued." if problem is None else f"scontrol could not requeue job {job}: {problem}"
    )
    print(text, file=sys.stderr, flush=True)
