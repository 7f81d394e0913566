"""``python -m helpers.forked_ranks …``: `train` with forks as its processes for several devices.

`forks.run` and `forks.start` have imported everything already, and so have these processes then.
"""

import copy
import logging
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import IO, Any

from hydra.core.singleton import Singleton
from lightning.fabric.utilities.rank_zero import rank_zero_only

from pti.train import launch
from pti.train.__main__ import main

_FRESH = copy.deepcopy(Singleton.get_state())  # Hydra's, before it has composed a configuration


class ForkedRank:
    """A rank's process, with what the launcher uses of `subprocess.Popen`."""

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], stdout: IO[str] | None, **_: Any
    ) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if not self.pid:
            try:
                _become(command, env, stdout)
            finally:
                os._exit(1)

    def poll(self) -> int | None:
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode

    def wait(self) -> int:
        while (code := self.poll()) is None:
            time.sleep(0.02)
        return code

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signum)


def _become(command: Sequence[str], env: Mapping[str, str], stdout: IO[str] | None) -> None:
    """Run ``python -m MODULE ARGUMENTS`` in this process."""
    os.setsid()
    for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(signum, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    Singleton.set_state(_FRESH)
    logging.getLogger().handlers.clear()
    os.environ.clear()
    os.environ.update(env)
    vars(rank_zero_only)["rank"] = int(env["LOCAL_RANK"])  # Lightning reads it when it is imported
    if stdout is not None:
        os.dup2(stdout.fileno(), 1)
        os.dup2(stdout.fileno(), 2)
    _, _, module, *arguments = command
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    launch.__dict__["subprocess"] = SimpleNamespace(Popen=ForkedRank, DEVNULL=subprocess.DEVNULL)
    main()
