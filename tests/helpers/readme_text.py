"""Commands, code blocks and tables of the project's Markdown pages."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")

CODE = re.compile(r"^```(\w*)\n(.*?)^```$|`([^`]+)`", re.DOTALL | re.MULTILINE)
PROGRAM = re.compile(r"(?:python3?|pip|pti|make|pytest) +\S|\.ci/")


def commands(text: str) -> list[str]:
    """List the commands of a Markdown text in order, from blocks and inline code, as typed."""
    lines = (" ".join(line.split()) for line in _lines(text))
    return [line for line in lines if PROGRAM.match(line)]


def verb_and_arguments(line: str) -> tuple[str, list[str]] | None:
    """Split ``python -m pti.VERB …`` or ``pti VERB …``; None for other commands."""
    words = shlex.split(line, comments=True)
    if words[:2] == ["python", "-m"] and words[2].startswith("pti."):
        return words[2][len("pti.") :], words[3:]
    return (words[1], words[2:]) if words[0] == "pti" else None


def code_blocks(text: str) -> list[tuple[str, str]]:
    """List the fenced blocks of a Markdown text as (language, content)."""
    return [(match[1], match[2]) for match in CODE.finditer(text) if match[3] is None]


def blocks(text: str, language: str) -> list[str]:
    """List the contents of the blocks in one language."""
    return [content for name, content in code_blocks(text) if name == language]


def table(head: str, text: str = README) -> list[list[str]]:
    """Return the cells of each row of the table whose first column is called ``head``."""
    match = re.search(rf"^\| {head} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert match is not None, f"there is no table with the column {head}"
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in match[1].splitlines()]


def _lines(text: str) -> Iterator[str]:
    for match in CODE.finditer(text):
        if match[3] is not None:
            yield match[3]  # inline code may continue in the next line
        elif match[1] == "bash":
            yield from match[2].replace("\\\n", " ").splitlines()
