"""Launcher: starts one process per device, supervises the processes and ends them together.

The processes get the environment that Lightning expects from an external launcher (``LOCAL_RANK``,
``MASTER_ADDR``, …). Lightning's own launcher would repeat the whole command line, including a sweep, in every
process.
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
from pathlib import Path

from pti.runs.arguments import typed_arguments
from pti.train.devices import STARTED_BY
from pti.train.failures import first_failure
from pti.train.rank import GRACE_AFTER_SIGNAL
from pti.train.requeue import STOP_SIGNALS

GRACE_AFTER_FAILURE = 5.0  # seconds in which the other ranks notice that one has ended
_POLL_SECONDS = 0.2

Ranks = list[subprocess.Popen[bytes]]


def run_on_devices(config_file: Path, output_dir: Path, devices: int) -> int:
    """Run ``train`` in one process per device and wait for all of them.

    Rank 0 uses the terminal; the others write ``output_dir/rank_N.log``, which is deleted after success.
    SIGTERM, SIGUSR1, SIGHUP and Ctrl-C are passed on once; a second Ctrl-C, or a process that does not end
    in time, kills all processes.

    Args:
        config_file: the resolved configuration.
        output_dir: the run's folder.
        devices: number of processes.

    Returns:
        0, or 128 + the signal that ended training.

    Raises:
        UsageError, DataError: the first failure of any process.
    """
    for stale in [*output_dir.glob("rank_*.log"), *output_dir.glob(".failure_*.json")]:
        stale.unlink()
    with _recorded_signals() as signals, _started(config_file, output_dir, devices) as ranks:
        _supervise(ranks, signals)
        codes = [rank.poll() for rank in ranks]  # None: the rank has to be killed
    stopped = {128 + signum for signum in STOP_SIGNALS}
    interrupted = [128 + signum for signum in signals] + [code for code in codes if code and code in stopped]
    if interrupted:
        return interrupted[0]
    if any(codes):
        raise first_failure(output_dir, codes)
    for log in output_dir.glob("rank_*.log"):
        log.unlink()
    return 0


@contextlib.contextmanager
def _started(config_file: Path, output_dir: Path, devices: int) -> Iterator[Ranks]:
    """Start the ranks; kill those that are left at the end, with all processes that they started."""
    environment = {
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // devices)),
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(devices),
        "LOCAL_WORLD_SIZE": str(devices),
        "NODE_RANK": "0",
        STARTED_BY: str(os.getpid()),
    }
    command = [sys.executable, "-m", "pti.train.rank", str(config_file), str(output_dir), *typed_arguments()]
    ranks: Ranks = []
    try:
        for rank in range(devices):
            log_path = output_dir / f"rank_{rank}.log"
            with open(log_path, "w") if rank else contextlib.nullcontext() as log:
                process = subprocess.Popen(
                    command,
                    env={**environment, "LOCAL_RANK": str(rank)},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C reaches the launcher alone, which passes it on once
                )
            ranks.append(process)
        yield ranks
    finally:
        for process in ranks:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _supervise(ranks: Ranks, signals: list[int]) -> None:
    """Return when all ranks have ended, or when the remaining ones must be killed."""
    passed_on, deadline = False, float("inf")
    while any(rank.poll() is None for rank in ranks) and time.monotonic() < deadline:
        if signals and not passed_on:
            for rank in ranks:
                rank.send_signal(signals[0])  # does nothing if the rank has ended
            deadline, passed_on = time.monotonic() + GRACE_AFTER_SIGNAL, True
        if signals.count(signal.SIGINT) > 1:
            return
        if any(rank.poll() for rank in ranks):
            deadline = min(deadline, time.monotonic() + GRACE_AFTER_FAILURE)
        time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def _recorded_signals() -> Iterator[list[int]]:
    """Record signals instead of obeying them; a closed terminal counts as SIGTERM."""
    received: list[int] = []
    hangup = getattr(signal, "SIGHUP", signal.SIGTERM)
    in_main_thread = threading.current_thread() is threading.main_thread()
    watched = {*STOP_SIGNALS, hangup} if in_main_thread else set()
    previous = {signum: signal.getsignal(signum) for signum in watched}
    for signum, handler in previous.items():
        if handler is not signal.SIG_IGN:  # nohup
            recorded = signal.SIGTERM if signum == hangup else signum
            signal.signal(signum, lambda number, frame, recorded=recorded: received.append(recorded))
    try:
        yield received
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
