"""Atomic writing and hashing of files.

A file name may hold bytes that aren't valid UTF-8, which Python represents by lone surrogates. They are
hashed as those bytes, and written to text files as escapes (U+DCE4 as a backslash and ``udce4``).
"""

import hashlib
import itertools
import json
import os
from contextlib import suppress
from pathlib import Path


def create_unused_folder(folder: Path) -> Path:
    """Create a folder that no other process uses: ``folder``, or with ``_2``, ``_3``, … appended to its name.

    Raises:
        OSError: It can't be created.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    names = itertools.chain([folder.name], (f"{folder.name}_{number}" for number in itertools.count(2)))
    for path in map(folder.with_name, names):
        with suppress(FileExistsError):  # of a process that was started in the same second
            os.mkdir(path)
            return path
    raise AssertionError


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write bytes beside ``path`` and rename the file into place, so that no reader sees a partial one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_text_atomically(path: Path, text: str) -> None:
    """Write UTF-8 beside ``path`` and rename it into place, so that no reader sees a partial file."""
    write_bytes_atomically(path, text.encode("utf-8", "backslashreplace"))


def write_json_atomically(path: Path, content: object) -> None:
    """Write plain containers as indented JSON; see `write_text_atomically`."""
    write_text_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def to_bytes(text: str) -> bytes:
    """Encode text that may contain file names, for hashing: UTF-8, or the names' own bytes."""
    return text.encode("utf-8", "surrogateescape")


def to_valid_text(text: str) -> str:
    """Replace bytes of file names that aren't valid UTF-8 by escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def hash_file(path: Path) -> str:
    """Compute the SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
