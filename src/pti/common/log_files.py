"""Log files of commands that run in separate processes."""

from pathlib import Path

_TABLE_CHARACTERS = "┏┃┡│└┌├╞╭╰─"  # at the beginning of a table's lines


def end_of(log: Path, size: int = 4096) -> str:
    """Return the last bytes of a log as text; empty if the file does not exist yet."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - size))
            return file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def last_line(log: Path) -> str:
    """Return the last line of a log that is not part of a table, or ``starting``."""
    lines = (line.strip() for line in reversed(end_of(log).splitlines()))
    return next((line for line in lines if line and line[0] not in _TABLE_CHARACTERS), "starting")
