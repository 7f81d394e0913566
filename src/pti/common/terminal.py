"""Output to terminals, pipes and files of any encoding."""

import io
import sys
from collections.abc import Iterable


def tolerate_encoding() -> None:
    """Print characters that the output's encoding lacks, and names that aren't valid UTF-8, as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_notes(notes: Iterable[str]) -> None:
    """Print notes, sentences without a full stop, one a line."""
    for note in notes:
        print(f"Note: {note}.", flush=True)
