"""Stop signals."""

import multiprocessing
import os
import signal
import time

import pytest

from pti.train.callbacks import Interrupted, StopSignals


def test_signals_are_raised_then_held_then_handlers_restored():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as signals:
        with pytest.raises(Interrupted) as caught:
            signal.raise_signal(signal.SIGTERM)
        assert caught.value.exit_code == 143
        signals.hold()
        signal.raise_signal(signal.SIGINT)
        assert signals.received == signal.SIGINT
        signal.raise_signal(signal.SIGTERM)
        assert signals.received == signal.SIGINT
    assert signal.getsignal(signal.SIGTERM) is before


def _wait() -> None:
    time.sleep(60)


def test_workers_leave_signals_to_the_training_process():
    with StopSignals() as signals:
        signals.hold()
        worker = multiprocessing.get_context("fork").Process(target=_wait, daemon=True)
        worker.start()
        time.sleep(0.2)
        for signum in (signal.SIGINT, signal.SIGTERM):
            os.kill(worker.pid or 0, signum)
        time.sleep(0.3)
        assert worker.is_alive()
        worker.kill()
        worker.join()
