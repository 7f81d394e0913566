"""Plots of a search: objectives by trial, Pareto front, importance, slices and learning curves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from matplotlib.ticker import LogLocator, MaxNLocator

from pti.drawing.themed_svg import LINE, SERIES, drawing
from pti.tune.results import TrialResult, TuneResults
from pti.tune.search import PRUNED
from pti.tune.settings import Objective
from pti.tune.space import Parameter
from pti.tune.trial_run import show_value

_MAX_PARAMETERS = 12
_MAX_LABELS = 16
_COLUMNS = 4
_LOG_FROM = 10.0  # ratio of the largest to the smallest positive value from which an axis is logarithmic


def plot_history(results: TuneResults) -> str | None:
    """Draw the objectives of the finished trials by number; None without a finished trial.

    Pruned trials are crosses at their best validation; a line is the best value so far.
    """
    trials = [trial for trial in results.trials if trial.finished]
    if not trials:
        return None
    goals = results.objectives
    with drawing(7.2, 2.6 * len(goals) + 0.4, "objectives of the trials, in order") as canvas:
        axes = canvas.figure.subplots(len(goals), 1, sharex=True, squeeze=False)[:, 0]
        for index, (goal, axis) in enumerate(zip(goals, axes, strict=True)):
            values = [_objective(trial, index) for trial in trials]
            numbers = [trial.number for trial in trials]
            costs = itertools.accumulate(map(goal.cost, values), min)
            axis.step(
                numbers,
                [goal.cost(cost) for cost in costs],
                where="post",
                color=LINE,
                linewidth=1.6,
                zorder=1,
            )
            axis.scatter(numbers, values, s=30, color=SERIES[0], zorder=3, label="finished")
            pruned = _pruned(results, goal) if len(goals) == 1 else []
            if pruned:
                axis.scatter(
                    *zip(*pruned, strict=True), s=26, marker="x", color=SERIES[1], zorder=2, label="pruned"
                )
                axis.legend()
            _scale(axis, "y", [*values, *(value for _, value in pruned)])
            axis.set_ylabel(goal.metric)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes[-1].set_xlabel("trial")
    return canvas.svg


def plot_front(results: TuneResults) -> str | None:
    """Draw each pair of objectives, with the best trials as a line; None for one objective."""
    pairs = list(itertools.combinations(range(len(results.objectives)), 2))
    trials, best = [trial for trial in results.trials if trial.finished], results.best
    if not pairs or not trials:
        return None
    with drawing(
        5.4 * min(2, len(pairs)), 3.8 * math.ceil(len(pairs) / 2), "objectives against each other"
    ) as canvas:
        axes = canvas.figure.subplots(math.ceil(len(pairs) / 2), min(2, len(pairs)), squeeze=False).ravel()
        for pair, axis in itertools.zip_longest(pairs, axes):
            if pair is None:
                axis.set_visible(False)
            else:
                _front(axis, results, trials, best, pair)
    return canvas.svg


def plot_importance(results: TuneResults) -> str | None:
    """Draw the importance of each key for each objective; None if it is unknown."""
    if not results.importance:
        return None
    keys = list(next(iter(results.importance.values())))
    with drawing(7.2, 0.8 + 0.32 * len(keys) * len(results.importance), "importance of the keys") as canvas:
        axis = canvas.figure.subplots()
        height = 0.8 / len(results.importance)
        for index, (metric, shares) in enumerate(results.importance.items()):
            places = [position + index * height for position in range(len(keys))]
            axis.barh(
                places,
                [shares.get(key, 0.0) for key in keys],
                height * 0.9,
                color=SERIES[index],
                label=metric,
            )
        middle = 0.4 - height / 2
        axis.set_yticks([position + middle for position in range(len(keys))], keys)
        axis.invert_yaxis()
        axis.grid(visible=False, axis="y")
        axis.set_xlabel("share of the objective's variation among good trials")
        if len(results.importance) > 1:
            axis.legend()
    return canvas.svg


def plot_slices(results: TuneResults, parameters: Sequence[Parameter]) -> str | None:
    """Draw each objective against each key, the best trials highlighted; None without a finished trial."""
    trials, shown = [trial for trial in results.trials if trial.finished], parameters[:_MAX_PARAMETERS]
    if not trials:
        return None
    best = {trial.number for trial in results.best}
    columns = min(_COLUMNS, max(2, len(shown)))
    rows = math.ceil(len(shown) / columns)
    goals = len(results.objectives)
    with drawing(2.6 * columns, 2.3 * rows * goals, "objectives against the searched keys") as canvas:
        axes = canvas.figure.subplots(rows * goals, columns, squeeze=False).ravel()
        padded = [*shown, *[None] * (rows * columns - len(shown))]
        for (index, parameter), axis in zip(itertools.product(range(goals), padded), axes, strict=True):
            if parameter is None:
                axis.set_visible(False)
                continue
            _slice(axis, trials, best, parameter, index)
            axis.set_ylabel(results.objectives[index].metric)
    return canvas.svg


def plot_curves(results: TuneResults) -> str | None:
    """Draw the validations of all trials by epoch, the best trial highlighted; None without any curve."""
    trials = [trial for trial in results.trials if trial.curve]
    if len(results.objectives) > 1 or not any(len(trial.curve) > 1 for trial in trials):
        return None
    best = {trial.number for trial in results.best}
    with drawing(7.2, 3.2, "validations of the trials by epoch") as canvas:
        axis = canvas.figure.subplots()
        for trial in sorted(trials, key=lambda trial: trial.number in best):
            pruned, is_best = trial.job.status == PRUNED, trial.number in best
            color = SERIES[2] if is_best else SERIES[1] if pruned else SERIES[0]
            epochs = [epoch + 1 for epoch in trial.curve]
            style = {"color": color, "linewidth": 2.2 if is_best else 1.0, "alpha": 1.0 if is_best else 0.6}
            axis.plot(epochs, list(trial.curve.values()), **style)
            if pruned:
                axis.plot(epochs[-1], list(trial.curve.values())[-1], "x", color=color, markersize=6)
        _scale(axis, "y", [value for trial in trials for value in trial.curve.values()])
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_xlabel("epoch")
        axis.set_ylabel(results.objectives[0].metric)
    return canvas.svg


def _front(
    axis: Any,
    results: TuneResults,
    trials: Sequence[TrialResult],
    best: Sequence[TrialResult],
    pair: tuple[int, int],
) -> None:
    first, second = pair
    front = {trial.number for trial in best}
    points = [(_objective(trial, first), _objective(trial, second), trial) for trial in trials]
    others = [(x, y) for x, y, trial in points if trial.number not in front]
    chosen = sorted((x, y, trial.number) for x, y, trial in points if trial.number in front)
    if others:
        axis.scatter(*zip(*others, strict=True), s=30, color=SERIES[0])
    xs, ys, numbers = zip(*chosen, strict=True)
    axis.plot(
        xs, ys, "o-" if len(results.objectives) == 2 else "o", color=SERIES[2], markersize=6, linewidth=1.2
    )
    if len(numbers) <= _MAX_LABELS:
        for x, y, number in zip(xs, ys, numbers, strict=True):
            axis.annotate(str(number), (x, y), (6, 5), textcoords="offset points", fontsize=9)
    _scale(axis, "x", [x for x, _, _ in points])
    _scale(axis, "y", [y for _, y, _ in points])
    axis.margins(x=0.12, y=0.12)
    axis.set_xlabel(results.objectives[first].metric)
    axis.set_ylabel(results.objectives[second].metric)


def _slice(
    axis: Any, trials: Sequence[TrialResult], best: set[int], parameter: Parameter, index: int
) -> None:
    choices = [show_value(choice) for choice in parameter.choices]
    for trial in sorted(trials, key=lambda trial: trial.number in best):
        value = trial.values[parameter.key]
        place = choices.index(show_value(value)) if choices else value
        color = SERIES[2] if trial.number in best else SERIES[0]
        axis.scatter([place], [_objective(trial, index)], s=26, color=color, zorder=3)
    if choices:
        axis.set_xticks(range(len(choices)), choices)
        axis.margins(x=0.25)
    else:
        margin = 0.04
        if parameter.log:
            axis.set_xscale("log")
            axis.xaxis.set_minor_formatter("")
            factor = (parameter.high / parameter.low) ** margin
            axis.set_xlim(parameter.low / factor, parameter.high * factor)
        else:
            room = margin * (parameter.high - parameter.low)
            axis.set_xlim(parameter.low - room, parameter.high + room)
    _scale(axis, "y", [_objective(trial, index) for trial in trials])
    axis.set_xlabel(parameter.label)


def _pruned(results: TuneResults, goal: Objective) -> list[tuple[int, float]]:
    return [
        (trial.number, goal.cost(min(map(goal.cost, trial.curve.values()))))
        for trial in results.trials
        if trial.job.status == PRUNED and trial.curve
    ]


def _objective(trial: TrialResult, index: int) -> float:
    assert trial.objectives is not None
    return trial.objectives[index]


def _scale(axis: Any, which: str, values: Sequence[float]) -> None:
    """Make an axis logarithmic if its values are positive and span more than a decade."""
    if min(values) > 0 and max(values) / min(values) > _LOG_FROM:
        axis.set(**{f"{which}scale": "log"})
        ticks = axis.xaxis if which == "x" else axis.yaxis
        ticks.set_major_formatter("{x:g}")
        ticks.set_minor_locator(LogLocator(subs=(2, 5)))
        ticks.set_minor_formatter("{x:g}")
