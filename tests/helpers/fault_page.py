"""The fault page: what pti must survive, and the tests that show it."""

from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[1] / "faults" / "page.txt"


class Fault(NamedTuple):
    """A row of the page.

    Attributes:
        number: ``01`` to ``43``: faults of data, processes, configuration and security; ``F01`` to ``F21``:
            cases that users of similar software reported.
        phrase: the fault, and what has to follow.
        tests: its tests: files below ``tests/``, each with a function and possibly ``[parameters]``.
    """

    number: str
    phrase: str
    tests: list[str]


def read_page() -> list[Fault]:
    """Read the rows: a line ``NUMBER PHRASE``, and below it an indented line for each test."""
    faults: list[Fault] = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):
            faults[-1].tests.append(line.strip())
        elif line and not line.startswith("#"):
            faults.append(Fault(*line.split(" ", 1), []))  # pyright: ignore[reportCallIssue]
    return faults
