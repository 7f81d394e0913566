"""Entry of a trial's process: ``python -m pti.tune.trial_process PARENT ARGUMENTS…``."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time

GRACE_AFTER_SIGNAL = 30.0
"""Seconds in which a training finishes its batch and writes a checkpoint."""

_POLL_SECONDS = 0.5


def main() -> None:
    """Run ``python -m pti.train ARGUMENTS…``; stop it with a checkpoint once the parent process has ended."""
    parent = int(sys.argv[1])
    sys.argv = ["pti train", *sys.argv[2:]]  # recorded in summary.json and environment.txt
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    importlib.import_module("pti.train.__main__").main()


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_AFTER_SIGNAL)
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    main()
