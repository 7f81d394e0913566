"""Run the demo's commands one after the other, and display the time left for all of them."""

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
from pti.common.log_files import end_of, last_line
from pti.common.progress import format_duration
from pti.demo.chapters import Chapter

LOGS = "logs"
SECONDS_BETWEEN_LINES = 30.0
"""Interval between printed lines when no terminal can show a bar."""

_TIME_LEFT = re.compile(r"(?:(\d+) h )?(?:(\d+) min )?(?:(\d+) s )?left\b")
_POLL_SECONDS = 0.5


def run_chapters(
    story: Sequence[Chapter],
    folder: Path,
    done: Mapping[str, float],
    note: Callable[[Chapter, float], None],
) -> int | None:
    """Run the chapters that aren't done; the output of each command goes to ``logs/NAME.log``.

    Args:
        story: The chapters in order.
        folder: Folder of the demo.
        done: Names of the finished chapters.
        note: Called with each chapter that finishes, and its duration in seconds.

    Returns:
        None; or 130 or 143 if a signal stopped the demo, which resumes when it is started again.

    Raises:
        DataError: A command failed; the message names its log.
    """
    (folder / LOGS).mkdir(parents=True, exist_ok=True)
    display = Display(story, done)
    with display.bar:
        for number, chapter in enumerate(story):
            if chapter.name in done:
                continue
            log = folder / LOGS / f"{chapter.name}.log"
            code = run_chapter(chapter, folder, log, lambda line, n=number: display.show(n, line))
            if code in (130, 143):
                return code
            if code != 0:
                tail = "\n".join(end_of(log).splitlines()[-8:])
                raise DataError(f"{chapter.title}: failed.\n{tail}\nAll of its output: {log}")
            note(chapter, display.finish(number))
    return None


def run_chapter(chapter: Chapter, folder: Path, log: Path, show: Callable[[str], None]) -> int:
    """Run one command in a process and return its exit code; forward signals to it and wait for its end.

    Args:
        chapter: The command.
        folder: Folder of the demo.
        log: File to append the command's output to.
        show: Called with the last line of the output, twice a second.
    """
    arguments = [sys.executable, *chapter.command(folder)[1:]]
    with open(log, "a", encoding="utf-8") as file:
        # In a new session, it receives the terminal's Ctrl-C only once.
        process = subprocess.Popen(
            arguments, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
        )
    received = 0

    def forward(signum: int, frame: FrameType | None) -> None:
        nonlocal received
        received = signum
        process.send_signal(signum)

    handlers = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while process.poll() is None:
            show(last_line(log))
            time.sleep(_POLL_SECONDS)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if process.poll() is None:
            process.kill()
    return 128 + received if received else process.returncode


class Display:
    """A bar over all chapters with the time left; without a terminal, a line now and then.

    Attributes:
        bar: The bar, to be entered while it is shown.

    Args:
        story: The chapters in order.
        done: Names of the finished chapters.
    """

    def __init__(self, story: Sequence[Chapter], done: Mapping[str, float]) -> None:
        self._story = story
        self._pace = 1.0  # actual / expected duration on this machine
        self._expected = [0.0 if chapter.name in done else chapter.seconds for chapter in story]
        self._started: dict[int, float] = {}
        self._last_line_at = -SECONDS_BETWEEN_LINES
        console = Console(stderr=True)
        columns = (BarColumn(24), TextColumn("{task.description}", markup=False))
        self.bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self.bar.add_task("", total=self._total)

    def show(self, number: int, line: str) -> None:
        """Show a chapter's progress, with the last line of its output."""
        now = time.monotonic()
        elapsed = now - self._started.setdefault(number, now)
        left = self._seconds_left(number, line, elapsed) + self._pace * sum(self._expected[number + 1 :])
        title = f"{number + 1} of {len(self._story)}: {self._story[number].title}"
        if not self.bar.disable:
            text = f"{title} · {format_duration(left)} left in all\n{line[: self.bar.console.width - 28]}"
            completed = max(0.0, self._total - left)
            self.bar.update(self._task, completed=completed, total=self._total, description=text)
        elif now - self._last_line_at >= SECONDS_BETWEEN_LINES:
            self._last_line_at = now
            text = f"{title}: {line.strip()} ({format_duration(left)} left in all)"
            print(text, file=sys.stderr, flush=True)

    def finish(self, number: int) -> float:
        """Mark a chapter as done and return its seconds; a training's pace adjusts the time left."""
        seconds = time.monotonic() - self._started.get(number, time.monotonic())
        expected, self._expected[number] = self._expected[number], 0.0
        chapter = self._story[number]
        if chapter.trains:
            self._pace = seconds / expected
        print(f"{chapter.title}: done in {format_duration(seconds)}", file=sys.stderr, flush=True)
        return seconds

    @property
    def _total(self) -> float:
        return self._pace * sum(chapter.seconds for chapter in self._story)

    def _seconds_left(self, number: int, line: str, elapsed: float) -> float:
        """Estimate the time left for a chapter.

        A training prints the time left for all of it, other commands only for their current part.
        """
        printed = printed_seconds_left(line)
        if printed is not None and self._story[number].trains:
            return printed
        # A chapter that exceeds its expected duration probably needs some more time.
        return max(printed or 0.0, self._pace * self._expected[number] - elapsed, elapsed / 8, 1.0)


def printed_seconds_left(line: str) -> float | None:
    """Read the time left from a line such as ``Encoding: 7/22, 3 min 23 s left``; None without one."""
    match = _TIME_LEFT.search(line)
    if match is None or not any(match.groups()):
        return None
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return 3600.0 * hours + 60 * minutes + seconds
