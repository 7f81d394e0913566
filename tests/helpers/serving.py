"""``python -m pti.explore`` in a separate process."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def served(folder: Path, *arguments: str) -> Iterator[tuple[str, subprocess.Popen]]:
    """Yield the page's address and the process, and end it by Ctrl-C, which must succeed."""
    with subprocess.Popen(
        [sys.executable, "-m", "pti.explore", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A background job of a shell ignores Ctrl-C, and this process would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        lines = []
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if "press Ctrl-C to stop" in line:
                break
        else:
            raise AssertionError("".join(lines))
        address = lines[-1].split("  ")[0].split(": ")[1]
        try:
            yield address, process
        finally:
            process.send_signal(signal.SIGINT)
            rest = process.stdout.read()
        assert process.wait(20) == 0, rest
        assert rest.strip() == "Stopped."
