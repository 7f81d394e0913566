"""The page of the demo: each chapter with its picture, metrics, command and files."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pti.common.files import write_text_atomically
from pti.common.progress import format_duration
from pti.demo.chapters import MODEL_ERROR, OFFSET_ERROR, Chapter
from pti.drawing.page import render


def write_page(story: Sequence[Chapter], folder: Path, seconds: Mapping[str, float]) -> Path:
    """Write ``index.html``, which links to pictures and files below ``folder``, and return its path.

    Args:
        story: The chapters, all of them done.
        folder: Folder of the demo.
        seconds: Name of a chapter -> its duration.
    """
    metrics = _metrics(folder / "evaluation")
    errors = {"model": metrics.get(MODEL_ERROR), "offset": metrics.get(OFFSET_ERROR)}
    known = all(isinstance(error, float) for error in errors.values())
    html = render(
        "demo/templates/demo.html",
        chapters=[_chapter_values(chapter, folder, seconds.get(chapter.name)) for chapter in story],
        duration=format_duration(sum(seconds.values())),
        errors={name: f"{error:.2f}" for name, error in errors.items()} if known else None,
    )
    page = folder / "index.html"
    write_text_atomically(page, html)
    return page


def _chapter_values(chapter: Chapter, folder: Path, seconds: float | None) -> dict[str, Any]:
    """Return what the template shows of a chapter."""
    home = folder / chapter.name
    pictures = sorted(home.glob(chapter.picture)) if chapter.picture else []
    metrics = _metrics(home)
    links = {title: home / name for title, name in chapter.links.items()}
    return {
        "name": chapter.name,
        "title": chapter.title,
        "text": chapter.text,
        "wide": chapter.wide or not pictures,
        "picture": pictures[-1].relative_to(folder).as_posix() if pictures else None,
        "metrics": {label: _text(metrics[key]) for key, label in chapter.metrics.items() if key in metrics},
        "links": {
            title: path.relative_to(folder).as_posix() for title, path in links.items() if path.exists()
        },
        "log": f"logs/{chapter.name}.log",
        "command": _command(chapter, folder),
        "duration": None if seconds is None else format_duration(seconds),
    }


def _metrics(home: Path) -> dict[str, Any]:
    path = home / "summary.json"
    return json.loads(path.read_text(encoding="utf-8"))["figures"] if path.is_file() else {}


def _command(chapter: Chapter, folder: Path) -> str:
    """Return the command that runs the whole chapter, with paths relative to the working directory."""
    *parts, _ = chapter.command(folder)
    here = f"{Path.cwd()}/"
    return shlex.join([part.replace(here, "") for part in [*parts, f"output_dir={folder / chapter.name}"]])


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
