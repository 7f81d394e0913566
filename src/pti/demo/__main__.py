"""``python -m pti.demo``: the whole story, from data to evaluation, and a page that tells it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from pti.cli.command import command
from pti.cli.preflight import POSITIVE, require_folder, require_in_range
from pti.common.errors import DataError, UsageError

if TYPE_CHECKING:
    from pti.demo.chapters import Chapter

STATE = "demo.json"
DEMOS = Path("outputs/demo")
_STAMP = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d")  # as in conf/demo.yaml


def preflight(cfg: DictConfig) -> list[str]:
    """Refuse what can't be; find the demo that was interrupted."""
    if cfg.data.root is not None:
        require_folder("data.root", cfg.data.root)
    require_in_range(cfg, {"minutes": POSITIVE, "samples": POSITIVE, "seed": (0, None)})
    given = Path(cfg.output_dir)
    state = _state(given)
    if state is not None and state["settings"] != settings(cfg):
        raise UsageError(
            f"output_dir={given}: a demo with other settings stands there ({state['settings']}). Choose "
            "another output_dir."
        )
    # A folder of the user's own choice is taken at its word.
    chosen = state is not None or given.parent != DEMOS or not _STAMP.fullmatch(given.name)
    unfinished = [] if chosen else [folder for folder in DEMOS.glob("*") if _unfinished(folder, cfg)]
    if not unfinished:
        return []
    newest = max(unfinished, key=lambda folder: folder.name)
    print(f"Going on with {newest}, which was interrupted.", flush=True)
    return [f"output_dir='{newest}'"]


def settings(cfg: DictConfig) -> dict[str, object]:
    """What must be the same for going on."""
    root = None if cfg.data.root is None else str(Path(str(cfg.data.root)).absolute())
    return {"minutes": cfg.minutes, "samples": cfg.samples, "seed": cfg.seed, "data.root": root}


@command("demo", preflight=preflight)
def main(cfg: DictConfig, output_dir: Path) -> int:
    """Run the chapters that aren't done yet, then write the page."""
    from pti.common.files import write_text_atomically
    from pti.demo.chapters import chapters
    from pti.demo.page import write_page
    from pti.demo.runner import run_chapters
    from pti.runs.summary import print_summary, write_summary

    root = None if cfg.data.root is None else Path(str(cfg.data.root)).expanduser()
    story = chapters(output_dir, root, cfg.minutes, cfg.samples, cfg.seed)
    state = _state(output_dir) or {"settings": settings(cfg), "seconds": {}}

    def note(chapter: Chapter, seconds: float) -> None:
        state["seconds"][chapter.name] = round(seconds, 1)
        write_text_atomically(output_dir / STATE, json.dumps(state, indent=2) + "\n")

    write_text_atomically(output_dir / STATE, json.dumps(state, indent=2) + "\n")
    failed = run_chapters(story, output_dir, state["seconds"], note)
    if failed is not None:
        return failed
    page = write_page(story, output_dir, state["seconds"])
    artefacts = {"page": page, **{each.title: output_dir / each.name for each in story}}
    seconds = sum(state["seconds"].values())
    write_summary(
        output_dir, command="demo", figures={"seconds": seconds}, artefacts=artefacts, seed=cfg.seed
    )
    print_summary("demo", {"minutes": round(seconds / 60, 1)}, {"page": page})
    return 0


def _state(folder: Path) -> dict | None:
    try:
        return json.loads((folder / STATE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataError(
            f"{folder / STATE}: not what a demo writes ({error}). Choose another output_dir."
        ) from None


def _unfinished(folder: Path, cfg: DictConfig) -> bool:
    if (folder / "index.html").exists() or not (folder / STATE).is_file():
        return False
    state = _state(folder)
    return state is not None and state["settings"] == settings(cfg)


if __name__ == "__main__":
    main()
