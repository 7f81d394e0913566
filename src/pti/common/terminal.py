"""Output to terminals, pipes and files of any encoding."""

import io
import sys


def tolerate_encoding() -> None:
    """Print characters that the output's encoding lacks, and names that aren't valid UTF-8, as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
