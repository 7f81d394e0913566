"""A command in the tests' own process, which has imported torch already."""

import csv
import io
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass
class Done:
    """What a command printed."""

    stdout: str
    stderr: str


def run_command(main: Callable[[], None], folder: Path, *arguments: str, code: int = 0) -> Done:
    """``python -m pti.VERB arguments`` in ``folder``; it must end with ``code``, and without a traceback."""
    out, err = io.StringIO(), io.StringIO()
    before = sys.argv, Path.cwd()
    sys.argv = [main.__module__, *arguments]
    os.chdir(folder)
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.argv = before[0]
        os.chdir(before[1])
    assert ended.value.code == code, err.getvalue() + out.getvalue()
    assert "Traceback" not in err.getvalue()
    return Done(out.getvalue(), err.getvalue())


def rows(path: Path) -> list[dict[str, str]]:
    """A table's rows."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))
