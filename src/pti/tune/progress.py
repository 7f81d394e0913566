"""Display of a search while it runs: a line for each trial, and the state of the running ones."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from pti.common.log_files import last_line
from pti.common.progress import format_duration
from pti.tune.search import FINISHED
from pti.tune.settings import Objective
from pti.tune.trial_run import TrialRun, show_value

SECONDS_BETWEEN_LINES = 30.0
"""Interval between lines about running trials when no terminal can show them."""

_MAX_LINE = 120  # characters


class TrialProgress:
    """A context that shows the running trials and the time left.

    Args:
        objectives: Objectives of the search.
        trials: Number of trials in all.
        done: Number of trials that have ended before.
        jobs: Trials at a time.
        best: Best value so far, of a single objective.
    """

    def __init__(
        self, objectives: Sequence[Objective], trials: int, done: int, jobs: int, best: float | None = None
    ) -> None:
        self._objectives, self._trials, self._done, self._jobs = objectives, trials, done, jobs
        self._best = best
        self._durations: list[float] = []
        self._printed_at = time.monotonic()
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, transient=True, auto_refresh=False)

    def __enter__(self) -> TrialProgress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def begin(self, run: TrialRun, values: Mapping[str, Any]) -> None:
        """Print the values of a trial that starts."""
        shown = ", ".join(f"{key}={show_value(value)}" for key, value in values.items())
        self._print(f"Trial {run.number} ({self._done + 1} of {self._trials}): {shown}")

    def end(self, run: TrialRun, status: str, reason: str, values: Sequence[float] | None) -> None:
        """Print the outcome of a trial."""
        self._done += 1
        self._durations.append(run.seconds)
        outcome = status if values is None else self._describe(values)
        detail = f": {reason.splitlines()[0]}" if reason else ""
        left = f"; {format_duration(self._seconds_left())} left" if self._done < self._trials else ""
        self._print(f"Trial {run.number}: {outcome}{detail} ({format_duration(run.seconds)}{left})")
        if status == FINISHED and values is not None and len(values) == 1:
            self._best = values[0] if self._improves(values[0]) else self._best

    def show(self, runs: Sequence[TrialRun]) -> None:
        """Show the last line of each running trial's output."""
        if self._console.is_terminal:
            lines = [f"trial {run.number}, {format_duration(run.seconds)}: {_state(run)}" for run in runs]
            self._live.update(
                Text("\n".join(lines), style="dim", overflow="ellipsis", no_wrap=True), refresh=True
            )
        elif time.monotonic() - self._printed_at >= SECONDS_BETWEEN_LINES:
            for run in runs:
                self._print(f"Trial {run.number}: {_state(run)[:_MAX_LINE]}")

    def _describe(self, values: Sequence[float]) -> str:
        named = zip(self._objectives, values, strict=True)
        text = ", ".join(f"{objective.metric} {value:.4g}" for objective, value in named)
        return f"{text}, the best so far" if len(values) == 1 and self._improves(values[0]) else text

    def _improves(self, value: float) -> bool:
        cost = self._objectives[0].cost
        return self._best is None or cost(value) < cost(self._best)

    def _seconds_left(self) -> float:
        mean = sum(self._durations) / len(self._durations)
        return mean * (self._trials - self._done) / self._jobs

    def _print(self, line: str) -> None:
        self._printed_at = time.monotonic()
        if self._console.is_terminal:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=sys.stderr, flush=True)


def _state(run: TrialRun) -> str:
    """Return the last line of a training's output; its next command isn't one for the user of the search."""
    line = last_line(run.log)
    return "ending" if line.startswith("Next: ") else line
