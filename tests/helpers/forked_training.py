"""Training in forks of one process that has imported everything, so that a start takes a second.

Run as ``python forked_training.py``, this file is that process: it reads one request per line, forks, and
writes the fork's process id, then its exit code.
"""

import json
import os
import select
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

_IMPORTED = (
    "pti.train.__main__ pti.train.run pti.train.callbacks pti.train.loggers pti.modules.adversarial_vae "
    "pti.modules.latent_diffusion pti.modules.tif_data pti.data.phantom pti.diffusion.samplers "
    "monai.networks.nets torch.utils.tensorboard matplotlib.pyplot"
)


class TrainingStarter:
    """A context in which ``python -m pti.train`` runs in forks of a prepared process, one at a time.

    Args:
        environment: Environment of all of them.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment

    def __enter__(self) -> "TrainingStarter":
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self._answer() == 0  # everything is imported
        return self

    def __exit__(self, *_: object) -> None:
        with self._server:
            self._server.kill()

    def start(self, folder: Path, *arguments: str) -> int:
        """Start a training in ``folder`` in a new session, and return its process id.

        Its output is appended to ``folder/log.txt``.
        """
        assert self._server.stdin is not None
        print(json.dumps([str(folder), *arguments]), file=self._server.stdin, flush=True)
        return self._answer()

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait for the end of the training, or this long.

        Returns:
            Its exit code, negative if a signal killed it; None if it is still running.
        """
        assert self._server.stdout is not None
        ready, _, _ = select.select([self._server.stdout], [], [], seconds)
        return self._answer() if ready else None

    def _answer(self) -> int:
        assert self._server.stdout is not None
        return int(self._server.stdout.readline())


def living(session: int) -> list[int]:
    """List the processes of a session, without those that have ended and wait to be reaped."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            state, _, _, its_session = path.read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state not in "ZX":
                found.append(int(path.parent.name))
    return found


def wait_until_gone(session: int, seconds: float) -> list[int]:
    """Wait until a session has no living process; return those that are left after the given time."""
    deadline = time.monotonic() + seconds
    while (left := living(session)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def _serve() -> None:
    for name in _IMPORTED.split():
        __import__(name)
    print(0, flush=True)
    for line in sys.stdin:
        folder, *arguments = json.loads(line)
        process = os.fork()
        if not process:
            _train(folder, arguments)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


def _train(folder: str, arguments: list[str]) -> None:
    from pti.train.__main__ import main

    os.setsid()
    print(os.getpid(), flush=True)
    os.chdir(folder)
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, number in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, number)
    sys.argv = ["pti.train", *arguments]
    main()


if __name__ == "__main__":
    _serve()
