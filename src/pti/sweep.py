"""A sweep on disk: its jobs, what became of each, and which earlier sweep the same command goes on with."""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pti.errors import UsageError
from pti.summary import write_text_atomically

FINISHED, INTERRUPTED, FAILED, WAITING = "finished", "interrupted", "failed", "waiting"
LONGEST_NAME = 100

_SWEEP, _JOB = "sweep.json", "job.json"
_SIGNAL = 128  # exit codes above it: ended by a signal


@dataclass(frozen=True)
class PlannedJob:
    """One job: the overrides that set it apart, a hash of its configuration, the folders of data it reads."""

    overrides: tuple[str, ...]
    config_hash: str
    data_roots: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobResult:
    """What became of a job.

    Attributes:
        name: name of its folder.
        values: the swept keys and this job's values, as typed.
        status: finished, failed, interrupted or waiting.
        reason: why it failed; empty otherwise.
        seconds: how long it ran, over all its starts.
        figures: what it reached, from its ``summary.json``; nested names joined by ``/``.
        summary: the whole ``summary.json``; empty when there is none.
        folder: where its files are.
    """

    name: str
    values: dict[str, str]
    status: str
    reason: str
    seconds: float
    figures: dict[str, Any]
    summary: dict[str, Any]
    folder: Path

    def figure(self, name: str) -> Any:
        """A figure by name: at the best epoch, else at the last, else as it is; None when there is none."""
        found = (self.figures.get(f"{when}{name}") for when in ("best/", "last/", ""))
        return next((value for value in found if value is not None), None)

    @property
    def label(self) -> str:
        """The values alone, as a label in a picture: ``1e-6`` or ``1e-6, seed 2``."""
        first, *rest = self.values.items() or [("", self.name)]
        return ", ".join([first[1], *(f"{key.split('.')[-1]} {value}" for key, value in rest)])


@dataclass(frozen=True)
class Sweep:
    """A folder with one folder a job. ``jobs`` maps their names to what they are to run."""

    folder: Path
    command: str
    jobs: dict[str, PlannedJob]

    def run(self, name: str, work: Callable[[], int | None]) -> int:
        """Do a job's work and record what became of it; return its exit code, pass its exceptions on."""
        earlier = self._record(name).get("seconds", 0.0)
        start = time.monotonic()

        def record(status: str, reason: str = "") -> None:
            state = data_state(self.jobs[name].data_roots) if status == FINISHED else None
            seconds = round(earlier + time.monotonic() - start, 1)
            self._write(name, {"status": status, "reason": reason, "seconds": seconds, "data_state": state})

        record(INTERRUPTED)  # until the contrary is recorded: a killed process records nothing
        try:
            code = work() or 0
        except (KeyboardInterrupt, SystemExit):
            record(INTERRUPTED)
            raise
        except BaseException as error:
            record(FAILED, f"{error}" or type(error).__name__)
            raise
        status = FINISHED if code == 0 else INTERRUPTED if code > _SIGNAL else FAILED
        record(status, f"exit code {code}" if status == FAILED else "")
        return code

    def status(self, name: str) -> str:
        """What was recorded last of a job: finished, failed or interrupted; waiting when it never began."""
        return self._record(name).get("status", WAITING)

    def is_finished(self, name: str) -> bool:
        """Whether the job ended well, wrote its summary, and its data are what they were."""
        summary = _read(self.folder / name / "summary.json")
        if self.status(name) != FINISHED or summary.get("status") != FINISHED:
            return False
        return self._record(name).get("data_state") == data_state(self.jobs[name].data_roots)

    def checkpoint_of(self, name: str) -> Path | None:
        """The newest checkpoint of a job that was begun earlier and not finished."""
        last = self.folder / name / "checkpoints" / "last.ckpt"
        return last if self._record(name) and last.is_file() else None

    def results(self) -> list[JobResult]:
        """What became of each job, in the order in which they run."""
        return [self._result(name) for name in self.jobs]

    def _result(self, name: str) -> JobResult:
        record, folder = self._record(name), self.folder / name
        summary = _read(folder / "summary.json")
        status = self.status(name)
        figures = dict(_flatten(summary.get("figures", {}))) if status == FINISHED else {}
        values = dict(_readable(override).split("=", 1) for override in self.jobs[name].overrides)
        reason, seconds = record.get("reason", ""), record.get("seconds", 0.0)
        return JobResult(name, values, status, reason, seconds, figures, summary, folder)

    def _record(self, name: str) -> dict[str, Any]:
        return _read(self.folder / name / _JOB)

    def _write(self, name: str, record: Mapping[str, Any]) -> None:
        write_text_atomically(self.folder / name / _JOB, json.dumps(record, indent=2) + "\n")

    def save(self) -> None:
        """Write ``sweep.json``: what it runs."""
        jobs = {
            name: {"overrides": job.overrides, "config_hash": job.config_hash, "data_roots": job.data_roots}
            for name, job in self.jobs.items()
        }
        content = {"command": self.command, "jobs": jobs}
        write_text_atomically(self.folder / _SWEEP, json.dumps(content, indent=2) + "\n")


def load_sweep(folder: Path) -> Sweep | None:
    """The sweep whose folder this is; None when there is no readable ``sweep.json``."""
    content = _read(folder / _SWEEP)
    try:
        jobs = {
            name: PlannedJob(tuple(job["overrides"]), job["config_hash"], tuple(job["data_roots"]))
            for name, job in content["jobs"].items()
        }
        return Sweep(folder, content["command"], jobs)
    except (KeyError, TypeError, AttributeError):
        return None


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
    earlier = [] if fresh else sorted(parent.glob(f"*/{_SWEEP}"), reverse=True)
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
                "one beside it with fresh_sweep=true."
            ) from None
        yield


def job_name(overrides: Sequence[str]) -> str:
    """Name of a job's folder: ``model.kl_weight-1e-7+seed-2`` for two overrides.

    Such a name can be typed as part of a value (``ckpt=…``), which needs quotes around ``=`` and commas. Other
    characters and great lengths give way to a hash.
    """
    text = "+".join(_readable(override).replace("=", "-", 1) for override in overrides) or "job"
    safe = re.sub(r"[^\w.+-]+", "_", text, flags=re.ASCII)
    if safe == text and len(text) <= LONGEST_NAME:
        return text
    return f"{safe[: LONGEST_NAME - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _readable(override: str) -> str:
    """``a=1e-7`` as the user typed it; Hydra hands out ``a=1e-07``."""
    return re.sub(r"(?<=\de)([+-])0+(?=\d+$)", r"\1", override)


def data_state(roots: Iterable[str]) -> str | None:
    """Hash of the names, sizes and times of the images and tables below some folders; None without any."""
    digest, count = hashlib.sha256(), 0
    for root in sorted(roots):
        for folder, inner, files in os.walk(root):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            for name in sorted(files):
                if not name.startswith(".") and name.lower().endswith((".tif", ".tiff", ".csv")):
                    status = os.stat(os.path.join(folder, name))
                    digest.update(f"{folder}/{name} {status.st_size} {status.st_mtime_ns}\n".encode())
                    count += 1
    return digest.hexdigest() if count else None


def _flatten(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
