"""Progress bar with the remaining time, for every long task outside training."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 10.0


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Yield ``items`` while showing the progress and the remaining time.

    On a terminal this is a bar on stderr. Elsewhere (a log file, CI) it prints at most one line every ten
    seconds, so none for short tasks. The first item includes the start (imports, caches), so that the
    remaining time is estimated from the others.

    Args:
        items: Items to iterate over.
        description: Short description of the task.
        total: Number of items, if ``items`` has no length.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if not sys.stderr.isatty():
        yield from _as_lines(items, description, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(items, total=total, description=description)


def _as_lines(items: Iterable[Item], description: str, total: int | None) -> Iterator[Item]:
    first = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if done == 1:
            first = now
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            counted = f"{done}" if total is None else f"{done}/{total}"
            if total is not None and done > 1:
                counted += f", {format_duration((now - first) / (done - 1) * (total - done))} left"
            print(f"{description}: {counted}", file=sys.stderr, flush=True)


def format_duration(seconds: float) -> str:
    """Format seconds as ``42 s``, ``3 min 20 s`` or ``2 h 05 min``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
