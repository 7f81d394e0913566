"""The page of the demo: each chapter with its picture, metrics, command and files."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pti.common.files import write_text_atomically
from pti.common.path_settings import as_value
from pti.common.progress import format_duration
from pti.demo.chapters import Chapter
from pti.drawing.page import render


def write_page(story: Sequence[Chapter], folder: Path, seconds: Mapping[str, float]) -> Path:
    """Write ``index.html``, which links to pictures and files below ``folder``, and return its path.

    Args:
        story: The chapters, all of them done.
        folder: Folder of the demo.
        seconds: Name of a chapter -> its duration.
    """
    chapters = {
        chapter.name: {
            "number": number,
            "title": chapter.title,
            "command": _command(chapter, folder),
            "duration": format_duration(seconds[chapter.name]) if chapter.name in seconds else None,
            "metrics": _metrics(folder / chapter.name / "summary.json"),
        }
        for number, chapter in enumerate(story, start=1)
    }
    html = render(
        "demo/templates/demo.html",
        chapters=chapters,
        duration=format_duration(sum(seconds.values())),
        files=lambda pattern: sorted(path.relative_to(folder).as_posix() for path in folder.glob(pattern)),
        exists=lambda path: (folder / path).exists(),
    )
    page = folder / "index.html"
    write_text_atomically(page, html)
    return page


def _metrics(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))["figures"] if path.is_file() else {}


def _command(chapter: Chapter, folder: Path) -> str:
    """Return the command that runs the whole chapter, with paths relative to the working directory."""
    *parts, _ = chapter.command(folder)
    here = f"{Path.cwd()}/"
    return shlex.join(
        [part.replace(here, "") for part in [*parts, f"output_dir={as_value(folder / chapter.name)}"]]
    )
