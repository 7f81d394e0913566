"""One trial while it runs: its process, its log and its validations."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pti.common.log_files import end_of
from pti.common.nested import flatten
from pti.common.path_settings import as_value
from pti.common.tables import read_csv
from pti.runs.lock import exclusive
from pti.sweep.record import FINISHED, JobResult
from pti.tune.trial_process import GRACE_AFTER_SIGNAL

LOG = "train.log"

PROGRAM = ("-m", "pti.tune.trial_process")
"""What Python runs in a trial's process, with the id of this process and the command line of `train`."""


def folder_of(output_dir: Path, number: int) -> Path:
    """Return the folder of a trial."""
    return output_dir / f"trial_{number:03d}"


@dataclass
class TrialRun:
    """The training of a trial, in a process.

    Attributes:
        number: Number of the trial.
        folder: Folder of the run.
        arguments: Command line of `train`, without the folder.
        environment: Environment variables of the process beside those of this one.
        prune: The trial is to end before its last epoch.
    """

    number: int
    folder: Path
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    prune: bool = False
    _process: subprocess.Popen[bytes] | None = None
    _began: float = field(default_factory=time.monotonic)
    _rows_read: int = 0

    @property
    def log(self) -> Path:
        """File of the training's output."""
        return self.folder / LOG

    @property
    def command(self) -> list[str]:
        """Command line of `train`, which continues a run that was interrupted in its folder."""
        return [*self.arguments, f"output_dir={as_value(self.folder)}", "resume=auto"]

    @property
    def seconds(self) -> float:
        """Seconds since this start."""
        return time.monotonic() - self._began

    @property
    def exit_code(self) -> int | None:
        """Exit code of the training; None while it runs."""
        return None if self._process is None else self._process.poll()

    @property
    def running(self) -> bool:
        """True from the start of the training until it has ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the training, once a process that an interrupted search has left in the folder is gone."""
        message = f"{self.folder}: waiting for the training of an interrupted search to end."
        with exclusive(self.folder, message, wait=True):
            pass
        parent = str(os.getpid())
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *PROGRAM, parent, *self.command],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches `tune` alone, which passes it on once
            )

    def send(self, signum: int) -> None:
        """Send a signal to the training, which then ends after its batch, with a checkpoint."""
        if self._process is not None:
            self._process.send_signal(signum)  # does nothing if it has ended

    def stop(self) -> None:
        """End the training with a checkpoint, and wait for it; kill it if that takes too long."""
        if self._process is None:
            return
        self.send(signal.SIGTERM)
        try:
            self._process.wait(GRACE_AFTER_SIGNAL)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill the training and all processes that it started."""
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def new_validations(self, metric: str) -> list[tuple[int, float]]:
        """Return the epochs and values of a metric that were logged since the last call, in order."""
        try:
            rows = read_csv(self.folder / "metrics.csv")[1]
        except FileNotFoundError:
            return []
        new, self._rows_read = rows[self._rows_read :], max(len(rows), self._rows_read)
        return [(int(row["epoch"]), float(row[metric])) for row in new if row.get(metric)]

    def error(self) -> str:
        """Return the training's message of failure, or the end of its log."""
        text = end_of(self.log, 1 << 14)
        _, marker, message = text.rpartition("\nError: ")
        if not marker:
            message = "\n".join(text.splitlines()[-8:])
        return message.strip() or "it wrote no message"


def result_of(folder: Path, values: Mapping[str, Any], status: str, reason: str, seconds: float) -> JobResult:
    """Return a trial as a sweep's page shows it, with the metrics from its ``summary.json``."""
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        summary = {}
    nested = flatten(summary.get("figures", {}), "/") if status == FINISHED else {}
    metrics = {key: value for key, value in nested.items() if not isinstance(value, dict)}
    shown = {key: show_value(value) for key, value in values.items()}
    return JobResult(folder.name, shown, status, reason, seconds, metrics, folder)


def show_value(value: Any) -> str:
    """Format a searched value with four significant digits."""
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.4g}"
    return str(value).lower() if isinstance(value, bool) else str(value)
