"""What the README tells people to type."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")

CODE = re.compile(r"^```(\w*)\n(.*?)^```$|`([^`]+)`", re.DOTALL | re.MULTILINE)
PROGRAM = re.compile(r"(?:python3?|pip|pti|make|pytest) +\S|\.ci/")


def commands(text: str) -> list[str]:
    """Every command of a Markdown text in its order, of blocks and of inline code, each as it is typed."""
    found = (" ".join(line.split()) for line in _lines(text))
    return [line for line in found if PROGRAM.match(line)]


def verb_and_arguments(line: str) -> tuple[str, list[str]] | None:
    """Of ``python -m pti.VERB …`` and ``pti VERB …``; None for other commands."""
    words = shlex.split(line, comments=True)
    if words[:2] == ["python", "-m"] and words[2].startswith("pti."):
        return words[2][len("pti.") :], words[3:]
    return (words[1], words[2:]) if words[0] == "pti" else None


def blocks(text: str, language: str) -> list[str]:
    """The blocks of one language."""
    return [match[2] for match in CODE.finditer(text) if match[1] == language]


def table(head: str) -> list[list[str]]:
    """The cells of each row of the README's table whose first column is called ``head``."""
    found = re.search(rf"^\| {head} \|.*\n\|[-|]+\n((?:\|.*\n)+)", README, re.MULTILINE)
    assert found is not None, f"README.md has no table of the column {head}"
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found[1].splitlines()]


def _lines(text: str) -> Iterator[str]:
    for match in CODE.finditer(text):
        if match[3] is not None:
            yield match[3]  # inline code may go on in the next line
        elif match[1] == "bash":
            yield from match[2].replace("\\\n", " ").splitlines()
