"""Commands in forks of one process that has imported everything: a start takes a fraction of a second.

Importing torch, Lightning and MONAI takes a new process many seconds. `run` and `start` run ``python -m
MODULE`` in a separate process with its own session, folder, environment and output, but without these
imports. Where the start itself is tested, use `training_setup.run` or `subprocess`.
"""

import atexit
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from helpers import fork_server

LIBRARIES = (
    *("torch", "lightning.pytorch", "monai.networks.nets", "monai.transforms", "torchmetrics", "hydra"),
    *("torch.utils.tensorboard", "matplotlib.pyplot", "sklearn.linear_model", "scipy.stats"),
)
"""What takes long to import."""

PACKAGE = (
    *("pti.train.run", "pti.train.callbacks", "pti.train.loggers", "pti.modules.adversarial_vae"),
    *("pti.modules.latent_diffusion", "pti.modules.regression", "pti.modules.tif_data", "pti.data.phantom"),
    *("pti.diffusion.samplers", "pti.inference.translator"),
)
"""What commands use of pti."""

_SHARED = (*LIBRARIES, *PACKAGE, "helpers.without_curves", "helpers.composed_ahead")


def environment(**extra: str) -> dict[str, str]:
    """Return the environment of a subprocess: one thread, a terminal of 160 columns, tests on the path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PTI_", "LOCAL_RANK"))}
    folders = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    path = os.pathsep.join(folders)
    return {**kept, "OMP_NUM_THREADS": "1", "COLUMNS": "160", "PYTHONPATH": path, **extra}


class ForkServer:
    """A process that has imported modules, and runs other ones in forks of itself.

    Args:
        environment: Environment of the process; its ``PYTHONPATH`` decides which pti is imported.
        imported: Names of the modules.
    """

    def __init__(self, environment: Mapping[str, str], imported: Iterable[str]) -> None:
        self._lock = threading.Lock()
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            self._process = subprocess.Popen(
                [sys.executable, fork_server.__file__, str(other.fileno()), *imported],
                env=dict(environment),
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the tests
            )

    def start(
        self, cwd: Path, *words: str, environment: Mapping[str, str], log: Path | None = None
    ) -> "Fork":
        """Start ``python -m words`` in a new session.

        Args:
            cwd: Its working directory.
            words: Name of the module, and its arguments.
            environment: All its environment variables. ``PYTHONPATH`` matters for what is not imported yet.
            log: File to which its output is appended; None: `Fork.communicate` returns it.
        """
        request = {"cwd": str(cwd), "words": words, "environment": dict(environment)}
        if log is None:
            output = TemporaryFile()  # noqa: SIM115 - `Fork` closes it
            return Fork(self, self._ask(request, output.fileno()), output)
        with log.open("ab") as file:
            return Fork(self, self._ask(request, file.fileno()))

    def poll(self, process: int) -> int | None:
        """Return the exit code of a process, negative if a signal ended it, or None while it runs.

        After the exit code, the process is unknown.
        """
        return self._ask({"poll": process})

    def close(self) -> None:
        """End the process that forks, not what it has started."""
        self._socket.close()
        self._process.wait()

    def __enter__(self) -> "ForkServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, request: dict[str, Any], *descriptors: int) -> Any:
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode()], list(descriptors))
            reply = self._socket.recv(1 << 10)
        assert reply, "the process that forks has ended"
        return json.loads(reply)


class Fork:
    """A process that a `ForkServer` has started, with the methods of `subprocess.Popen`.

    Attributes:
        pid: The process id, which is also that of its session.
        returncode: The exit code, negative if a signal ended it; None until its end is noticed.
    """

    def __init__(self, server: ForkServer, pid: int, output: IO[bytes] | None = None) -> None:
        self._server, self._output = server, output
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._server.poll(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        until = time.monotonic() + (float("inf") if timeout is None else timeout)
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            time.sleep(0.02)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """Wait for the end, and return all that it has written."""
        self.wait(timeout)
        assert self._output is not None, "the output is in the log"
        self._output.seek(0)
        return self._output.read().decode(errors="surrogateescape"), None

    def kill(self) -> None:
        """Kill its session."""
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)

    def __enter__(self) -> "Fork":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.kill()
        self.wait()
        if self._output is not None:
            self._output.close()


@functools.cache
def shared_server() -> ForkServer:
    """Return the server of this test process, which ends with it."""
    server = ForkServer(environment(), _SHARED)
    atexit.register(server.close)
    return server


def start(cwd: Path, *words: str, module: str = "pti.train", log: Path | None = None, **more: str) -> Fork:
    """Start ``python -m module words`` in a fork; a training draws no ``curves.png`` at its end.

    Args:
        cwd: Its working directory.
        words: Its arguments.
        module: Name of the module.
        log: File to which its output is appended; None: `Fork.communicate` returns it.
        more: Environment variables beside those of this process.
    """
    return shared_server().start(cwd, module, *words, environment=environment(**more), log=log)


def run(
    cwd: Path, *words: str, module: str = "pti.train", timeout: float = 120, **more: str
) -> tuple[int, str]:
    """Run ``python -m module words`` in a fork; return the exit code and the output. Arguments as `start`."""
    with start(cwd, *words, module=module, log=None, **more) as process:
        output, _ = process.communicate(timeout)
    return process.wait(), output
