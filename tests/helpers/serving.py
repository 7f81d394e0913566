"""``python -m pti.explore`` in a process of its own."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def served(folder: Path, *arguments: str) -> Iterator[tuple[str, subprocess.Popen]]:
    """The page's address and the process; it is ended by Ctrl-C, which has to be clean."""
    with subprocess.Popen(
        [sys.executable, "-m", "pti.explore", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Of a shell's background job Ctrl-C is ignored, and so it would be here.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        said = []
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if "press Ctrl-C to stop" in line:
                break
        else:
            raise AssertionError("".join(said))
        address = said[-1].split("  ")[0].split(": ")[1]
        try:
            yield address, process
        finally:
            process.send_signal(signal.SIGINT)
            rest = process.stdout.read()
        assert process.wait(20) == 0, rest
        assert rest.strip() == "Stopped."
