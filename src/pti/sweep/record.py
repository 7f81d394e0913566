"""Record of a sweep on disk: its jobs and the outcome of each."""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pti.common.files import to_bytes, write_json_atomically
from pti.common.nested import flatten
from pti.runs.locate import BEST, LAST, collapse_of

FINISHED, INTERRUPTED, FAILED, WAITING = "finished", "interrupted", "failed", "waiting"
COLLAPSED = "collapsed"

SWEEP_FILE, _JOB = "sweep.json", "job.json"
_SIGNAL = 128  # higher exit codes: ended by a signal


@dataclass(frozen=True)
class PlannedJob:
    """One job: the overrides that distinguish it, the hash of its configuration, its data folders."""

    overrides: list[str]
    config_hash: str
    data_roots: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class JobResult:
    """Outcome of a job.

    Attributes:
        name: Name of its folder.
        values: Swept key -> this job's value, as typed.
        status: ``finished``, ``failed``, ``interrupted``, ``waiting``, or ``collapsed`` for a job whose model
            learned nothing, whether or not that ended the job.
        reason: Reason of a failure or collapse; empty otherwise.
        seconds: Total running time of all its starts.
        metrics: Metrics from its ``summary.json``; nested names joined by ``/``.
        folder: Folder of its files.
    """

    name: str
    values: dict[str, str]
    status: str
    reason: str
    seconds: float
    metrics: dict[str, Any]
    folder: Path

    def metric(self, name: str) -> Any:
        """Return a metric of the best epoch, else of the last, else without an epoch; None if absent."""
        values = (self.metrics.get(f"{epoch}{name}") for epoch in ("best/", "last/", ""))
        return next((value for value in values if value is not None), None)

    @property
    def checkpoint(self) -> Path | None:
        """Best checkpoint of a finished job, else its last one, if there is one."""
        paths = [self.folder / "checkpoints" / name for name in (BEST, LAST) if self.status == FINISHED]
        return next(filter(Path.is_file, paths), None)

    @property
    def label(self) -> str:
        """Label in a picture: ``1e-6``, or ``1e-6, seed 2``."""
        first, *rest = self.values.items() or [("", self.name)]
        return ", ".join([first[1], *(f"{key.split('.')[-1]} {value}" for key, value in rest)])


@dataclass(frozen=True)
class Sweep:
    """A sweep: its folder, with one folder for each job; the verb; job name -> planned job."""

    folder: Path
    command: str
    jobs: dict[str, PlannedJob]

    def run(self, name: str, work: Callable[[], int | None]) -> int:
        """Run a job and record its outcome; return its exit code, re-raise its exceptions."""
        earlier = self._record(name).get("seconds", 0.0)
        start = time.monotonic()

        def record(status: str, reason: str) -> None:
            state = data_state(self.jobs[name].data_roots) if status == FINISHED else None
            seconds = round(earlier + time.monotonic() - start, 1)
            content = {"status": status, "reason": reason, "seconds": seconds, "data_state": state}
            write_json_atomically(self.folder / name / _JOB, content)

        record(INTERRUPTED, "")  # a killed process records nothing later
        status, reason = INTERRUPTED, ""
        try:
            code = work() or 0
            status = FINISHED if code == 0 else INTERRUPTED if code > _SIGNAL else FAILED
            reason = f"exit code {code}" if status == FAILED else ""
            return code
        except Exception as error:
            status, reason = FAILED, str(error) or type(error).__name__
            raise
        finally:
            record(status, reason)

    def status(self, name: str) -> str:
        """Return a job's last recorded status; ``waiting`` if it never began."""
        return self._record(name).get("status", WAITING)

    def is_finished(self, name: str) -> bool:
        """Tell whether a job finished, wrote its summary, and its data have not changed since."""
        summary = _read(self.folder / name / "summary.json")
        if self.status(name) != FINISHED or summary.get("status") != FINISHED:
            return False
        return self._record(name).get("data_state") == data_state(self.jobs[name].data_roots)

    def results(self) -> list[JobResult]:
        """Return the outcome of each job, in the order in which they run."""
        results = []
        for name, job in self.jobs.items():
            record, folder = self._record(name), self.folder / name
            status, reason = record.get("status", WAITING), record.get("reason", "")
            summary = _read(folder / "summary.json") if status == FINISHED else {}
            values = dict(readable(override).split("=", 1) for override in job.overrides)
            nested = flatten(summary.get("figures", {}), "/")
            metrics = {key: value for key, value in nested.items() if not isinstance(value, dict)}
            seconds = record.get("seconds", 0.0)
            collapse = collapse_of(folder) if status in (FINISHED, FAILED) else ""
            if collapse:
                status, reason = COLLAPSED, reason or collapse
            results.append(JobResult(name, values, status, reason, seconds, metrics, folder))
        return results

    def _record(self, name: str) -> dict[str, Any]:
        return _read(self.folder / name / _JOB)

    def save(self) -> None:
        """Write ``sweep.json`` with the planned jobs."""
        jobs = {name: asdict(job) for name, job in self.jobs.items()}
        write_json_atomically(self.folder / SWEEP_FILE, {"command": self.command, "jobs": jobs})


def load_sweep(folder: Path) -> Sweep | None:
    """Load the sweep of a folder; None without a readable ``sweep.json``."""
    content = _read(folder / SWEEP_FILE)
    try:
        jobs = {name: PlannedJob(**job) for name, job in content["jobs"].items()}
        return Sweep(folder, content["command"], jobs)
    except (KeyError, TypeError, AttributeError):
        return None


def readable(override: str) -> str:
    """Restore ``a=1e-7`` as the user typed it; Hydra returns ``a=1e-07``."""
    return re.sub(r"(?<=\de)([+-])0+(?=\d+$)", r"\1", override)


def data_state(roots: Iterable[str]) -> str | None:
    """Hash the names, sizes and times of all images and tables below folders; None if there are none."""
    lines = []
    for root in sorted(roots):
        for folder, inner, files in os.walk(root):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            for name in sorted(files):
                if not name.startswith(".") and name.lower().endswith((".tif", ".tiff", ".csv")):
                    status = os.stat(os.path.join(folder, name))
                    lines.append(f"{folder}/{name} {status.st_size} {status.st_mtime_ns}\n")
    return hashlib.sha256(to_bytes("".join(lines))).hexdigest() if lines else None


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
