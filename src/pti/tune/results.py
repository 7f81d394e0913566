"""Results of a search: its trials, the best of them, and the tables."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pti.common.tables import write_csv
from pti.sweep.record import JobResult
from pti.tune.search import FINISHED, Search, seconds_of, status_of
from pti.tune.settings import Objective, TuneSettings
from pti.tune.trial_run import folder_of, result_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

MIN_FOR_IMPORTANCE = 8
"""Finished trials from which the importance of the keys is estimated."""

_MAX_ROWS = 10


@dataclass(frozen=True)
class TrialResult:
    """Outcome of a trial.

    Attributes:
        number: Number of the trial, from 0.
        values: Searched key -> value.
        objectives: Values of the objectives at the best epoch; None unless it finished.
        curve: Epoch -> value of a single objective at its validation.
        job: Status, reason, time, metrics and folder, as a sweep's page shows them.
    """

    number: int
    values: dict[str, Any]
    objectives: tuple[float, ...] | None
    curve: dict[int, float]
    job: JobResult

    @property
    def finished(self) -> bool:
        """True if the trial was trained to its end."""
        return self.objectives is not None


@dataclass(frozen=True)
class TuneResults:
    """Trials of a search.

    Attributes:
        objectives: The objectives.
        trials: All trials by number.
        importance: Objective -> searched key -> its share of the objective's variation; empty if unknown.
    """

    objectives: Sequence[Objective]
    trials: list[TrialResult]
    importance: dict[str, dict[str, float]]

    @property
    def best(self) -> list[TrialResult]:
        """The best trial; with several objectives, all trials that no other one surpasses in all of them."""
        finished = sorted(self._finished, key=lambda trial: (self.costs(trial), trial.number))
        if len(self.objectives) == 1:
            return finished[:1]
        costs = [self.costs(trial) for trial in finished]
        return [
            trial
            for trial, cost in zip(finished, costs, strict=True)
            if not any(map(_surpasses(cost), costs))
        ]

    @property
    def compromise(self) -> TrialResult | None:
        """The best trial that is nearest to the best values of all objectives; None without a finished trial.

        Each objective is scaled by its range among the best trials.
        """
        best = self.best
        if not best:
            return None
        columns = list(zip(*(self.costs(trial) for trial in best), strict=True))
        lows, spans = [min(column) for column in columns], [max(column) - min(column) for column in columns]

        def distance(trial: TrialResult) -> float:
            parts = zip(self.costs(trial), lows, spans, strict=True)
            return math.hypot(*((cost - low) / span for cost, low, span in parts if span > 0))

        return min(best, key=distance)

    @property
    def counts(self) -> dict[str, int]:
        """Status -> number of trials."""
        return dict(Counter(trial.job.status for trial in self.trials))

    def costs(self, trial: TrialResult) -> tuple[float, ...]:
        """Return the objectives of a finished trial as numbers of which lower ones are better."""
        return tuple(
            goal.cost(value) for goal, value in zip(self.objectives, trial.objectives or (), strict=True)
        )

    @property
    def _finished(self) -> list[TrialResult]:
        return [trial for trial in self.trials if trial.finished]


def best_value(search: Search, settings: TuneSettings) -> float | None:
    """Return the best value so far of a single objective; None with several, and without a finished trial."""
    values = [trial.values[0] for trial in search.trials if status_of(trial)[0] == FINISHED and trial.values]
    several = len(settings.objectives) > 1
    return None if several or not values else min(values, key=settings.objectives[0].cost)


def collect(search: Search, settings: TuneSettings, output_dir: Path) -> TuneResults:
    """Collect the trials of a search from its study and their folders."""
    trials = [_trial_result(trial, settings, output_dir) for trial in search.trials]
    return TuneResults(settings.objectives, trials, _importance(search, settings))


def write_trials(path: Path, results: TuneResults) -> None:
    """Write a row per trial: values, status, objectives, time, and all metrics of its summary."""
    best = {trial.number for trial in results.best}
    rows = [
        {
            "trial": trial.number,
            **trial.values,
            "status": trial.job.status,
            "best": "yes" if trial.number in best else "",
            **dict(zip([goal.metric for goal in results.objectives], trial.objectives or (), strict=False)),
            "seconds": trial.job.seconds,
            "reason": trial.job.reason,
            "path": trial.job.folder.name,
        }
        for trial in results.trials
    ]
    metrics = [trial.job.metrics for trial in results.trials]
    write_csv(path, None, [row | found | row for row, found in zip(rows, metrics, strict=True)])


def print_trials(results: TuneResults) -> None:
    """Print the best trials, the best one first, and the reasons of failures."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    best = {trial.number for trial in results.best}
    ranked = sorted(
        (trial for trial in results.trials if trial.finished),
        key=lambda trial: (trial.number not in best, results.costs(trial), trial.number),
    )
    table = Table(title="Best trials", title_justify="left")
    table.add_column("trial", justify="right")
    for goal in results.objectives:
        table.add_column(goal.metric, justify="right")
    for key in results.trials[0].values if results.trials else ():
        table.add_column(key.replace("/", ".").split(".")[-1], overflow="fold", min_width=9)
    for trial in ranked[:_MAX_ROWS]:
        values = [f"{value:.4g}" for value in trial.objectives or ()]
        style = "bold" if trial.number in best else None
        table.add_row(str(trial.number), *values, *trial.job.values.values(), style=style)
    console.print(table)
    for trial in results.trials:
        if trial.job.reason:
            text = f"trial {trial.number} {trial.job.status}: {trial.job.reason}"
            console.print(text, style="red", markup=False, highlight=False, soft_wrap=True)


def _trial_result(trial: FrozenTrial, settings: TuneSettings, output_dir: Path) -> TrialResult:
    status, reason = status_of(trial)
    values = {
        parameter.key: parameter.value_of(trial.params[parameter.key])
        for parameter in settings.parameters
        if parameter.key in trial.params
    }
    job = result_of(folder_of(output_dir, trial.number), values, status, reason, seconds_of(trial.user_attrs))
    objectives = tuple(trial.values) if status == FINISHED and trial.values else None
    return TrialResult(trial.number, values, objectives, dict(trial.intermediate_values), job)


def _surpasses(cost: tuple[float, ...]) -> Any:
    """Return a function that tests whether other costs dominate these: nowhere higher, somewhere lower."""
    return lambda other: other != cost and all(a <= b for a, b in zip(other, cost, strict=True))


def _importance(search: Search, settings: TuneSettings) -> dict[str, dict[str, float]]:
    """Estimate the importance of the searched keys (PED-ANOVA: Watanabe et al. 2023, arXiv 2304.10255)."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState

    finished = [trial for trial in search.trials if trial.state == TrialState.COMPLETE]
    if len(finished) < MIN_FOR_IMPORTANCE or len(settings.parameters) < 2:
        return {}
    found: dict[str, dict[str, float]] = {}
    for index, goal in enumerate(settings.objectives):
        if len({trial.values[index] for trial in finished}) > 1:

            def cost(trial: FrozenTrial, index: int = index, goal: Objective = goal) -> float:
                return goal.cost(trial.values[index])

            evaluator = PedAnovaImportanceEvaluator()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # a reminder that low targets count as good
                importance = get_param_importances(search.study, evaluator=evaluator, target=cost)
            found[goal.metric] = dict(importance)
    return found
