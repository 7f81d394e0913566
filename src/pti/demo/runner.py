"""Runs a list of commands one after the other, with one display of all that is left."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from pti.common.errors import DataError
from pti.common.progress import format_duration
from pti.demo.chapters import Chapter

LOGS = "logs"
_FRAMES = "┏┃┡│└┌├╞╭╰─"  # what a line of a table begins with
_LEFT = re.compile(r"(?:(\d+) h )?(?:(\d+) min )?(?:(\d+) s )?left\b")
_LOOK = 0.5  # seconds between two looks at a command's log
_LINES = 30.0  # seconds between two lines where there is no terminal


def run_chapters(
    story: Sequence[Chapter],
    folder: Path,
    done: Mapping[str, float],
    note: Callable[[Chapter, float], None],
) -> int | None:
    """Run what isn't done; the output of each command goes to ``logs/NAME.log``.

    Args:
        story: the commands.
        folder: of the demo.
        done: names of finished chapters.
        note: told of each chapter that is finished, and its seconds.

    Returns:
        None; or 130 or 143 when a signal stopped it: it goes on when it is started again.

    Raises:
        DataError: a command failed; names its log.
    """
    (folder / LOGS).mkdir(parents=True, exist_ok=True)
    with _Display(story, done) as display:
        for number, chapter in enumerate(story):
            if chapter.name in done:
                continue
            start = time.monotonic()
            log = folder / LOGS / f"{chapter.name}.log"
            code = _run(chapter, folder, log, lambda line, n=number: display.show(n, line))
            if code in (130, 143):
                return code
            if code != 0:
                raise DataError(f"{chapter.title}: failed.\n{_tail(log)}\nAll of its output: {log}")
            note(chapter, time.monotonic() - start)
            display.finished(number)
    return None


def _run(chapter: Chapter, folder: Path, log: Path, show: Callable[[str], None]) -> int:
    """The exit code of the command; signals are passed on to it, and then it is waited for."""
    arguments = [sys.executable, *chapter.command(folder)[1:]]
    with open(log, "a", encoding="utf-8") as file:
        # A session of its own: a Ctrl-C of the terminal would reach it twice.
        process = subprocess.Popen(
            arguments, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
        )
    stopped_by = 0

    def pass_on(signum: int, frame: FrameType | None) -> None:
        nonlocal stopped_by
        stopped_by = signum
        process.send_signal(signum)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while process.poll() is None:
            show(_last_line(log))
            time.sleep(_LOOK)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if process.poll() is None:
            process.kill()
    return 128 + stopped_by if stopped_by else process.returncode


class _Display:
    """A bar over all chapters with the time that is left; lines where there is no terminal."""

    def __init__(self, story: Sequence[Chapter], done: Mapping[str, float]) -> None:
        self.story = story
        self.pace = 1.0  # how many times as long as expected this machine takes
        self.missing = [0.0 if chapter.name in done else chapter.seconds for chapter in story]
        self.begun: dict[int, float] = {}
        self.line_at = -_LINES
        console = Console(stderr=True)
        columns = (BarColumn(24), TextColumn("{task.description}", markup=False))
        self.bar = Progress(*columns, console=console, transient=True) if console.is_terminal else None

    def __enter__(self) -> _Display:
        if self.bar is not None:
            self.bar.start()
            self.bar.add_task("", total=self._total)
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def show(self, number: int, line: str) -> None:
        """What the command of a chapter says at the moment."""
        now = time.monotonic()
        elapsed = now - self.begun.setdefault(number, now)
        left = self._left_here(number, line, elapsed) + self.pace * sum(self.missing[number + 1 :])
        title = f"{number + 1} of {len(self.story)}: {self.story[number].title}"
        if self.bar is not None:
            text = f"{title} · {format_duration(left)} left in all\n{line[: self.bar.console.width - 28]}"
            self.bar.update(
                self.bar.task_ids[0],
                completed=max(0.0, self._total - left),
                total=self._total,
                description=text,
            )
        elif now - self.line_at >= _LINES:
            self.line_at = now
            print(
                f"{title}: {line.strip()} ({format_duration(left)} left in all)", file=sys.stderr, flush=True
            )

    def finished(self, number: int) -> None:
        """A chapter is done: what is left is expected to go as fast as a training did."""
        took = time.monotonic() - self.begun.get(number, time.monotonic())
        expected, self.missing[number] = self.missing[number], 0.0
        if self.story[number].trains:
            self.pace = took / expected
        print(f"{self.story[number].title}: done in {format_duration(took)}", file=sys.stderr, flush=True)

    @property
    def _total(self) -> float:
        return self.pace * sum(chapter.seconds for chapter in self.story)

    def _left_here(self, number: int, line: str, elapsed: float) -> float:
        """Seconds of a chapter: a training tells all of them, another command those of its present part."""
        told = _seconds_left(line)
        if told is not None and self.story[number].trains:
            return told
        # What takes longer than expected may take some time yet.
        return max(told or 0.0, self.pace * self.missing[number] - elapsed, elapsed / 8, 1.0)


def _seconds_left(line: str) -> float | None:
    found = _LEFT.search(line)
    if found is None or not any(found.groups()):
        return None
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return 3600.0 * hours + 60 * minutes + seconds


def _last_line(log: Path) -> str:
    lines = (line.strip() for line in reversed(_end(log).splitlines()))
    return next((line for line in lines if line and line[0] not in _FRAMES), "starting")


def _tail(log: Path) -> str:
    return "\n".join(_end(log).splitlines()[-8:])


def _end(log: Path, size: int = 4096) -> str:
    with open(log, "rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - size))
        return file.read().decode("utf-8", errors="replace")
