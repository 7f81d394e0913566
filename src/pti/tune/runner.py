"""Run the trials, one or several at a time, until all are done or a signal stops the search."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pti.common.errors import DataError, UsageError
from pti.runs.locate import collapse_of
from pti.tune.progress import TrialProgress
from pti.tune.search import COLLAPSED, FAILED, FINISHED, PRUNED, Search, add_seconds
from pti.tune.settings import TuneSettings
from pti.tune.trial_process import GRACE_AFTER_SIGNAL
from pti.tune.trial_run import TrialRun, folder_of, result_of

if TYPE_CHECKING:
    from optuna import Trial

MAX_FAILURES = 5
"""Failures in succession that end the search: the reason is probably not the trials' values."""

_POLL_SECONDS = 0.2
_USAGE_ERROR = 2
_STOPPED = 128  # higher exit codes: ended by a signal, after a checkpoint
_STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}


class Runner:
    """Runs trials in processes.

    Args:
        search: The search.
        settings: Its settings.
        output_dir: Its folder, which gets a folder for each trial.
        environments: Environment variables of each of the trials that run at a time.
        progress: Display of the progress.
    """

    def __init__(
        self,
        search: Search,
        settings: TuneSettings,
        output_dir: Path,
        environments: Sequence[Mapping[str, str]],
        progress: TrialProgress,
    ) -> None:
        self._search = search
        self._settings = settings
        self._output_dir = output_dir
        self._free = list(environments)
        self._progress = progress
        self._running: dict[int, tuple[Trial, TrialRun]] = {}
        self._failures = 0

    def run(self) -> int | None:
        """Run all trials that are left.

        Returns:
            None; or 128 + signal if a signal stopped the search after checkpoints of the running trials.

        Raises:
            UsageError: The first trial can't be trained because of the configuration.
            DataError: Several trials in succession failed.
        """
        waiting = self._search.interrupted()
        with _recorded_signals() as received, self._progress:
            try:
                while not received:
                    self._start_trials(waiting)
                    if not self._running:
                        return None
                    self._check_trials()
                    self._progress.show([run for _, run in self._running.values()])
                    time.sleep(_POLL_SECONDS)
            finally:
                self._stop_all(received)
        return _STOPPED + received[0]

    def _start_trials(self, waiting: list[Trial]) -> None:
        """Fill the free places with interrupted and new trials."""
        while self._free:
            trial = waiting.pop(0) if waiting else self._search.begin()
            if trial is None:
                return
            values = self._search.draw(trial)
            searched = [parameter.override(values[parameter.key]) for parameter in self._settings.parameters]
            folder = folder_of(self._output_dir, trial.number)
            run = TrialRun(trial.number, folder, [*self._settings.overrides, *searched], self._free.pop(0))
            self._running[trial.number] = (trial, run)
            self._progress.begin(run, values)
            self._judge(trial, run)  # by validations of an earlier start
            if not run.prune:
                run.start()

    def _check_trials(self) -> None:
        """Report new validations of the running trials, and conclude those that have ended or are pruned."""
        for number, (trial, run) in list(self._running.items()):
            code = run.exit_code  # before the validations, so that none is missed
            self._judge(trial, run)
            if code is None and not run.prune:
                continue
            del self._running[number]
            self._free.append(dict(run.environment))
            if run.prune:
                run.stop()
                self._conclude(trial, run, PRUNED)
            else:
                self._conclude_ended(trial, run, int(code or 0))

    def _judge(self, trial: Trial, run: TrialRun) -> None:
        """Report new validations, up to the one that decides that the trial is pruned."""
        validations = run.new_validations(self._settings.objectives[0].metric)
        run.prune |= any(self._search.report(trial, epoch, value) for epoch, value in validations)

    def _conclude_ended(self, trial: Trial, run: TrialRun, code: int) -> None:
        if code > _STOPPED:
            raise DataError(
                f"{run.folder}: the training was stopped by a signal from outside (exit code {code}), so the "
                "search ends here. The same command with this output_dir continues it."
            )
        if code == _USAGE_ERROR and not any(other.values for other in self._search.trials):
            raise UsageError(f"trial {run.number} can't be trained: {run.error()}")
        if code == 0:
            self._conclude_finished(trial, run)
            return
        collapse = collapse_of(run.folder)
        reason = collapse or (
            run.error() if code > 0 else f"ended by {signal.Signals(-code).name} from outside"
        )
        self._conclude(trial, run, COLLAPSED if collapse else FAILED, reason)

    def _conclude_finished(self, trial: Trial, run: TrialRun) -> None:
        result = result_of(run.folder, {}, FINISHED, "", 0.0)
        values = [result.metric(objective.metric) for objective in self._settings.objectives]
        missing = [
            objective.metric
            for objective, value in zip(self._settings.objectives, values, strict=True)
            if not isinstance(value, (int, float))
        ]
        known = sorted({name.split("/", 1)[1] for name in result.metrics if name.startswith("best/val/")})
        if missing and not set(missing) & set(known):
            raise UsageError(
                f"objectives: {missing[0]} is not a metric of the validation. Its metrics: "
                f"{', '.join(known) or 'none'}."
            )
        if missing:
            self._conclude(trial, run, FAILED, f"{', '.join(missing)} is not a finite number")
        else:
            self._conclude(trial, run, FINISHED, values=values)

    def _conclude(
        self, trial: Trial, run: TrialRun, status: str, reason: str = "", values: list[float] | None = None
    ) -> None:
        add_seconds(trial, run.seconds)
        self._search.end(trial, status, reason, values)
        self._progress.end(run, status, reason, values)
        self._failures = self._failures + 1 if status in (FAILED, COLLAPSED) else 0
        if self._failures >= MAX_FAILURES:
            raise DataError(
                f"The last {self._failures} trials failed or collapsed, the last one because: {reason}\n"
                f"Its output: {run.log}. The same command with this output_dir continues the search."
            )

    def _stop_all(self, received: list[int]) -> None:
        """Let the running trials save a checkpoint; a second Ctrl-C kills them."""
        for trial, run in self._running.values():
            run.send(signal.SIGTERM)
            add_seconds(trial, run.seconds)
        deadline = time.monotonic() + GRACE_AFTER_SIGNAL
        while any(run.running for _, run in self._running.values()):
            if received.count(signal.SIGINT) > 1 or time.monotonic() > deadline:
                break
            time.sleep(_POLL_SECONDS)
        for _, run in self._running.values():
            run.kill()


@contextlib.contextmanager
def _recorded_signals() -> Iterator[list[int]]:
    """Record signals instead of obeying them; a closed terminal counts as SIGTERM."""
    received: list[int] = []
    watched = _STOP_SIGNALS if threading.current_thread() is threading.main_thread() else ()
    previous = {signum: signal.getsignal(signum) for signum in watched}

    def record(signum: int, frame: Any) -> None:
        received.append(signum if signum == signal.SIGINT else signal.SIGTERM)

    for signum, handler in previous.items():
        if handler is not signal.SIG_IGN:  # nohup
            signal.signal(signum, record)
    try:
        yield received
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
