"""Entry of one of several training processes: ``python -m pti.train.rank CONFIG OUTPUT_DIR ARGUMENTS…``."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from pti.common.terminal import tolerate_encoding
from pti.train.devices import STARTED_BY
from pti.train.failures import write_failure

GRACE_AFTER_SIGNAL = 25.0
"""Seconds in which training finishes its batch and writes a checkpoint."""


def main() -> None:
    """Train as one rank, leave an error for the launcher to show, and end with the launcher."""
    tolerate_encoding()
    config_file, output_dir = Path(sys.argv[1]), Path(sys.argv[2])
    sys.argv = ["pti train", *sys.argv[3:]]  # recorded in summary.json
    threading.Thread(target=_follow_launcher, args=(int(os.environ[STARTED_BY]),), daemon=True).start()
    try:
        from pti.train.run import train_from_file

        code = train_from_file(config_file, output_dir)
    except BaseException as error:
        write_failure(output_dir, int(os.environ["LOCAL_RANK"]), error)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # Python's normal exit could wait for threads that talk to processes which have ended.
    os._exit(code)


def _follow_launcher(launcher: int) -> None:
    """End as on SIGTERM, with a checkpoint, when the launcher is gone; be killed if that takes too long."""
    while os.getppid() == launcher:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_AFTER_SIGNAL)
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    main()
