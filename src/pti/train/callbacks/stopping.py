"""SIGTERM and Ctrl-C: noted, then obeyed between two batches."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_WORKER_GRACE = 25.0  # seconds that a loader worker outlives a SIGTERM, so that its batch can be finished


class Interrupted(Exception):
    """Training was stopped by a signal; ``exit_code`` is the shell's 128 + signal (130, 143)."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum
        self.exit_code = 128 + signum


class StopSignals:
    """A context in which a signal raises :class:`Interrupted` at once, or, after ``hold()``, is only noted.

    While signals are held, a second Ctrl-C ends the process on the spot. Loader workers, which inherit the
    handlers, leave both signals to the training process.
    """

    def __init__(self) -> None:
        self.received = 0
        self._held = False
        self._owner = os.getpid()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        self._owner = os.getpid()
        if threading.current_thread() is threading.main_thread():
            self._before = {signum: signal.getsignal(signum) for signum in _SIGNALS}
            self._install()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before = {}

    def hold(self) -> None:
        """From here on signals are noted in ``received``. Repeat it after someone else took the handlers."""
        self._held = True
        if self._before:
            self._install()

    def _install(self) -> None:
        for signum in _SIGNALS:
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
            # print() could be interrupted by this very handler while it holds the stream's lock.
            os.write(2, b"\nStopping after this batch, with a checkpoint; Ctrl-C again stops at once.\n")

    @staticmethod
    def _handle_in_worker(signum: int) -> None:
        if signum == signal.SIGTERM:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, _WORKER_GRACE)
