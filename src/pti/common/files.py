"""Atomic writing and hashing of files."""

import hashlib
import json
import os
from pathlib import Path


def write_text_atomically(path: Path, text: str) -> None:
    """Write ``text`` beside ``path`` and rename it into place, so that no reader sees a partial file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    os.replace(temporary, path)


def write_json_atomically(path: Path, content: object) -> None:
    """Write plain containers as indented JSON; see `write_text_atomically`."""
    write_text_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def hash_file(path: Path) -> str:
    """Compute the SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
