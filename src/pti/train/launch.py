"""Starts one process for each device, watches them, and ends them together.

The processes get what Lightning expects of a launcher from outside (``LOCAL_RANK``, ``MASTER_ADDR``, …), so
that it starts none of its own: that would repeat the command line, sweep and all, in every process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from pti.common.errors import UsageError
from pti.train.rank import GRACE_AFTER_SIGNAL, STARTED_BY, first_failure

GRACE_AFTER_FAILURE = 5.0  # seconds in which the others notice that a process is gone
_POLL = 0.2


def started_from_outside() -> bool:
    """Whether torchrun, SLURM or this module has started this process as one of several."""
    return "LOCAL_RANK" in os.environ or int(os.environ.get("SLURM_NTASKS", 1)) > 1


def started_by_launcher() -> bool:
    """Whether this module has started this process."""
    return STARTED_BY in os.environ


def count_devices(trainer: Any) -> int:
    """The number of processes that ``conf/trainer`` asks for on this machine.

    Args:
        trainer: a mapping with ``accelerator`` and ``devices``, as Lightning's Trainer takes them.

    Raises:
        UsageError: this machine hasn't got them.
    """
    accelerator, devices = str(trainer.get("accelerator", "auto")), trainer.get("devices", "auto")
    many = devices in ("auto", -1, "-1")
    wanted = 1 if many else int(devices) if isinstance(devices, (int, str)) else len(devices)
    if accelerator == "cpu" or (accelerator == "auto" and wanted == 1 and not many):
        return wanted
    import torch

    found = torch.cuda.device_count()
    if accelerator in ("gpu", "cuda") and not found and not torch.backends.mps.is_available():
        raise UsageError(f"trainer.accelerator={accelerator}: this machine has no GPU; choose trainer=cpu.")
    if found and wanted > found:
        raise UsageError(f"trainer.devices={devices}: this machine has {found}; choose at most so many.")
    return max(1, found) if many else wanted


def run_on_devices(config_file: Path, output_dir: Path, devices: int) -> int:
    """Run ``train`` once for each device and wait.

    Rank 0 shares the terminal; the others write ``output_dir/rank_N.log``, which is removed when all went
    well. SIGTERM, SIGHUP and Ctrl-C are passed on once; a second Ctrl-C, or too long a wait, kills all
    processes.

    Args:
        config_file: the resolved configuration.
        output_dir: the run's folder.
        devices: number of processes.

    Returns:
        0, or 128 + the signal that ended training.

    Raises:
        UsageError, DataError: what went wrong first, in any process.
    """
    for stale in [*output_dir.glob("rank_*.log"), *output_dir.glob(".failure_*.json")]:
        stale.unlink()
    signals: list[int] = []
    with _signals_into(signals), _started(config_file, output_dir, devices) as ranks:
        _supervise(ranks, signals)
        codes = [rank.process.poll() for rank in ranks]  # None: has to be killed
    interrupted = [128 + signum for signum in signals] + [code for code in codes if code in (130, 143)]
    if interrupted:
        return interrupted[0]
    if any(codes):
        raise first_failure(output_dir, codes)
    for rank in range(devices):
        (output_dir / f"rank_{rank}.log").unlink(missing_ok=True)
    return 0


@dataclass
class _Rank:
    process: subprocess.Popen[bytes]
    log: TextIO | None


@contextlib.contextmanager
def _started(config_file: Path, output_dir: Path, devices: int) -> Iterator[list[_Rank]]:
    environment = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(devices),
        "NODE_RANK": "0",
        STARTED_BY: str(os.getpid()),
    }
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // devices)))
    command = [sys.executable, "-m", "pti.train.rank", str(config_file), str(output_dir), *sys.argv[1:]]
    ranks: list[_Rank] = []
    try:
        for rank in range(devices):
            log = open(output_dir / f"rank_{rank}.log", "w") if rank else None  # noqa: SIM115 (closed below)
            # A session of its own: Ctrl-C in the terminal reaches this process alone, which passes it on.
            process = subprocess.Popen(
                command,
                env={**environment, "LOCAL_RANK": str(rank)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            ranks.append(_Rank(process, log))
        yield ranks
    finally:
        for rank in ranks:
            _kill(rank.process)
            rank.process.wait()
            if rank.log is not None:
                rank.log.close()


def _supervise(ranks: list[_Rank], signals: list[int]) -> None:
    """Return when all have ended, or when those that haven't must be killed."""
    passed_on, deadline = False, float("inf")
    while any(rank.process.poll() is None for rank in ranks) and time.monotonic() < deadline:
        if signals and not passed_on:
            for rank in ranks:
                if rank.process.poll() is None:
                    rank.process.send_signal(signals[0])
            deadline, passed_on = time.monotonic() + GRACE_AFTER_SIGNAL, True
        if signals.count(signal.SIGINT) > 1:
            return
        if any(rank.process.poll() for rank in ranks):
            deadline = min(deadline, time.monotonic() + GRACE_AFTER_FAILURE)
        time.sleep(_POLL)


@contextlib.contextmanager
def _signals_into(received: list[int]) -> Iterator[None]:
    """Note signals in ``received`` instead of obeying them; a closed terminal counts as SIGTERM."""
    hangup = getattr(signal, "SIGHUP", signal.SIGTERM)
    watched = [signal.SIGTERM, signal.SIGINT, hangup]
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.getsignal(signum) for signum in watched}
    for signum in watched:
        if before[signum] is not signal.SIG_IGN:  # nohup
            noted = signal.SIGTERM if signum == hangup else signum
            signal.signal(signum, lambda number, frame, noted=noted: received.append(noted))
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a rank with all that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
