"""The page of a search: ``tune.html``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pti.common.files import write_text_atomically
from pti.common.progress import format_duration
from pti.drawing.page import render
from pti.sweep.page import CHOSEN_BY, show
from pti.tune.plots import plot_curves, plot_front, plot_history, plot_importance, plot_slices
from pti.tune.results import TrialResult, TuneResults
from pti.tune.settings import TuneSettings

FILE = "tune.html"


def write_page(
    output_dir: Path, results: TuneResults, settings: TuneSettings, commands: Mapping[int, str]
) -> Path:
    """Write ``tune.html``, which links to the trials' folders, and return its path.

    Args:
        output_dir: Folder of the search.
        results: Its trials.
        settings: Its settings.
        commands: Number of a best trial -> the command that trains it as an experiment.
    """
    best = {trial.number for trial in results.best}
    ranked = sorted(results.trials, key=lambda trial: _rank(trial, results, best))
    compromise = results.compromise
    html = render(
        "tune/templates/tune.html",
        title=f"Search: {settings.experiment or 'training'}",
        objectives=results.objectives,
        parameters=settings.parameters,
        rows=[_row(trial, trial.number in best) for trial in ranked],
        best=compromise,
        best_values=None if compromise is None else list(map(show, compromise.objectives or ())),
        front=[(trial, list(map(show, trial.objectives or ()))) for trial in results.best],
        commands=commands,
        tiles=_tiles(results, settings),
        failures=[trial for trial in results.trials if trial.job.reason],
        history=plot_history(results),
        pareto=plot_front(results),
        importance=plot_importance(results),
        slices=plot_slices(results, settings.parameters),
        curves=plot_curves(results),
        pruning=settings.pruning,
        remark=remark_on_kl(settings),
    )
    path = output_dir / FILE
    write_text_atomically(path, html)
    return path


def remark_on_kl(settings: TuneSettings) -> str:
    """Return what a search of the KL weight for the lowest error leaves out; empty for other searches."""
    searched = any(parameter.key.endswith("kl_weight") for parameter in settings.parameters)
    if not searched or [goal.metric for goal in settings.objectives] != [CHOSEN_BY]:
        return ""
    return (
        f"A smaller KL weight usually lowers {CHOSEN_BY}; to weigh it against val/kl, search with "
        f"'objectives={{{CHOSEN_BY}:min,val/kl:min}}'."
    )


def _rank(trial: TrialResult, results: TuneResults, best: set[int]) -> tuple[Any, ...]:
    """Sort key: the best trials, then the other finished ones by the first objective, then the rest."""
    costs = results.costs(trial) if trial.finished else ()
    return trial.number not in best, not trial.finished, costs, trial.number


def _row(trial: TrialResult, is_best: bool) -> dict[str, Any]:
    values: Sequence[Any] = trial.objectives or ()
    return {
        "trial": trial,
        "best": is_best,
        "objectives": list(map(show, values)),
        "time": format_duration(trial.job.seconds) if trial.job.seconds else "–",
    }


def _tiles(results: TuneResults, settings: TuneSettings) -> list[tuple[str, str]]:
    seconds = sum(trial.job.seconds for trial in results.trials)
    counted = [(str(count), status) for status, count in results.counts.items()]
    return [
        (f"{len(results.trials)} of {settings.trials}", "trials"),
        *counted,
        (format_duration(seconds), "in all"),
    ]
