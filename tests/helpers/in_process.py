"""Commands run in the tests' own process, which has already imported torch."""

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
    """Output of a command."""

    stdout: str
    stderr: str


def run_command(main: Callable[[], object], folder: Path, *arguments: str, code: int = 0) -> Done:
    """Run ``python -m pti.VERB arguments`` in ``folder``; require exit ``code`` and no traceback."""
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
    """Read the rows of a table."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))
