"""SIGTERM, SIGUSR1 and Ctrl-C: recorded when they arrive, obeyed between two batches."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from pti.train.requeue import STOP_SIGNALS

_WORKER_GRACE = 25.0  # seconds that a loader worker survives a SIGTERM, so that the batch can be finished


class Interrupted(Exception):  # noqa: N818  (control flow, not an error)
    """A signal stopped training; ``exit_code`` is 128 + signal as in a shell (130, 138, 143)."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.exit_code = 128 + signum


class StopSignals:
    """Context in which a signal raises `Interrupted` at once or, after ``hold()``, is only recorded.

    While signals are held, a second Ctrl-C ends the process immediately. Loader workers inherit the handlers;
    they leave these signals to the training process.

    Attributes:
        received: the recorded signal; 0 if none.
    """

    def __init__(self) -> None:
        self.received = 0
        self._held = False
        self._owner = os.getpid()
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        self._owner = os.getpid()
        if threading.current_thread() is threading.main_thread():
            self._previous = {signum: signal.getsignal(signum) for signum in STOP_SIGNALS}
            self._install()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous = {}

    def hold(self) -> None:
        """Record signals from now on; call it again after a library has replaced the handlers."""
        self._held = True
        if self._previous:
            self._install()

    def _install(self) -> None:
        for signum in STOP_SIGNALS:
            signal.signal(signum, self._handle)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            self._handle_in_worker(signum)
        elif not self._held:
            raise Interrupted(signum)
        elif self.received and signum == signal.SIGINT:
            for worker in multiprocessing.active_children():
                worker.kill()
            os._exit(128 + signum)
        elif not self.received:
            self.received = signum
            # This handler could interrupt print() while it holds the lock of the stream.
            os.write(2, b"\nStopping after this batch, with a checkpoint; Ctrl-C again stops at once.\n")

    @staticmethod
    def _handle_in_worker(signum: int) -> None:
        if signum == signal.SIGTERM:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, _WORKER_GRACE)
