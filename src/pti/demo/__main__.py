"""``python -m pti.demo``: run everything from data to evaluation, and write a page about it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from pti.cli.command import command
from pti.cli.preflight import POSITIVE, require_folder, require_in_range
from pti.common.errors import DataError, UsageError
from pti.common.path_settings import literal, setting

if TYPE_CHECKING:
    from pti.demo.chapters import Chapter

STATE = "demo.json"
DEMOS = Path("outputs/demo")
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d")  # as in conf/demo.yaml


def preflight(cfg: DictConfig) -> list[str]:
    """Check the settings, and find an interrupted demo to resume."""
    if cfg.data.root is not None:
        require_folder("data.root", cfg.data.root)
    require_in_range(cfg, {"minutes": POSITIVE, "samples": POSITIVE, "seed": (0, None)})
    output_dir = Path(cfg.output_dir)
    state = _read_state(output_dir)
    if state is not None and state["settings"] != settings(cfg):
        raise UsageError(
            f"{setting('output_dir', output_dir)}: it holds a demo with other settings "
            f"({state['settings']}). Choose another output_dir."
        )
    if state is not None or output_dir.parent != DEMOS or not _TIMESTAMP.fullmatch(output_dir.name):
        return []  # the user chose this folder
    for folder in sorted(DEMOS.glob("*"), reverse=True):
        state = None if (folder / "index.html").exists() else _read_state(folder)
        if state is not None and state["settings"] == settings(cfg):
            print(f"Resuming {folder}, which was interrupted.", flush=True)
            return [f"output_dir={literal(folder)}"]
    return []


def settings(cfg: DictConfig) -> dict[str, object]:
    """Return the settings that must be equal for a demo to be resumed."""
    root = None if cfg.data.root is None else str(Path(str(cfg.data.root)).absolute())
    return {"minutes": cfg.minutes, "samples": cfg.samples, "seed": cfg.seed, "data.root": root}


@command("demo", preflight=preflight)
def main(cfg: DictConfig, output_dir: Path) -> int:
    """Run the chapters that aren't done yet, then write the page."""
    from pti.common.files import write_json_atomically
    from pti.demo.chapters import chapters
    from pti.demo.page import write_page
    from pti.demo.runner import run_chapters
    from pti.runs.summary import from_here, print_summary, write_summary

    root = None if cfg.data.root is None else Path(str(cfg.data.root))
    story = chapters(output_dir, root, cfg.minutes, cfg.samples, cfg.seed)
    state = _read_state(output_dir) or {"settings": settings(cfg), "seconds": {}}

    def note(chapter: Chapter, seconds: float) -> None:
        state["seconds"][chapter.name] = round(seconds, 1)
        write_json_atomically(output_dir / STATE, state)

    write_json_atomically(output_dir / STATE, state)
    stopped = run_chapters(story, output_dir, state["seconds"], note)
    if stopped is not None:
        return stopped
    page = write_page(story, output_dir, state["seconds"])
    artefacts = {"page": page, **{chapter.title: output_dir / chapter.name for chapter in story}}
    seconds = sum(state["seconds"].values())
    write_summary(
        output_dir, command="demo", metrics={"seconds": seconds}, artefacts=artefacts, seed=cfg.seed
    )
    following = "python -m pti.check data.root=DATA"
    if root is not None:
        following = f"python -m pti.train experiment=vae_baseline {setting('data.root', from_here(root))}"
    print_summary("demo", {"minutes": round(seconds / 60, 1)}, {"page": page}, following)
    return 0


def _read_state(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / STATE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataError(
            f"{folder / STATE}: not written by a demo ({error}). Choose another output_dir."
        ) from None


if __name__ == "__main__":
    main()
