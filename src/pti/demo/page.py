"""The page of the demo: its chapters in order, each with its picture, figures, command and files."""

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
    """Write ``index.html`` and return its path; pictures and files are linked, below ``folder``.

    Args:
        story: the chapters, all of them done.
        folder: of the demo.
        seconds: how long each took, by name.
    """
    chapters = [_told(chapter, folder, seconds.get(chapter.name)) for chapter in story]
    page = folder / "index.html"
    took = format_duration(sum(seconds.values()))
    write_text_atomically(
        page, render("demo/templates/demo.html", chapters=chapters, took=took, lead=_lead(folder))
    )
    return page


def _told(chapter: Chapter, folder: Path, seconds: float | None) -> dict[str, Any]:
    home = folder / chapter.name
    pictures = sorted(home.glob(chapter.picture)) if chapter.picture else []
    found = _figures(home)
    links = {title: home / name for title, name in chapter.links.items()}
    return {
        "name": chapter.name,
        "title": chapter.title,
        "text": chapter.text,
        "wide": chapter.wide or not pictures,
        "picture": _below(pictures[-1], folder) if pictures else None,
        "figures": {title: _shown(found[key]) for key, title in chapter.figures.items() if key in found},
        "links": {title: _below(path, folder) for title, path in links.items() if path.exists()},
        "log": f"logs/{chapter.name}.log",
        "command": _command(chapter, folder),
        "took": None if seconds is None else format_duration(seconds),
    }


def _lead(folder: Path) -> dict[str, str] | None:
    """The two numbers that the story comes down to."""
    found = _figures(folder / "evaluation")
    keys = {"model": MODEL_ERROR, "offset": OFFSET_ERROR}
    if any(not isinstance(found.get(key), float) for key in keys.values()):
        return None
    return {name: f"{found[key]:.2f}" for name, key in keys.items()}


def _figures(home: Path) -> dict[str, Any]:
    path = home / "summary.json"
    return json.loads(path.read_text(encoding="utf-8"))["figures"] if path.is_file() else {}


def _command(chapter: Chapter, folder: Path) -> str:
    """As it was typed, but for going on with an interrupted training."""
    typed = [part for part in chapter.command(folder) if not part.startswith(("ckpt_path=", "output_dir="))]
    here = f"{Path.cwd()}/"
    return shlex.join([part.replace(here, "") for part in [*typed, f"output_dir={folder / chapter.name}"]])


def _below(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
