"""Files and tables at the end of a search."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from pti.common.path_settings import as_value
from pti.runs.arguments import typed_arguments
from pti.runs.summary import from_here, print_summary, write_summary
from pti.sweep.page import show
from pti.tune.experiment import train_command, trial_experiment, write_experiment
from pti.tune.results import TrialResult, TuneResults, collect, print_trials, write_trials
from pti.tune.search import DATABASE, Search
from pti.tune.settings import TuneSettings

TABLE = "trials.csv"


def write_report(output_dir: Path, search: Search, settings: TuneSettings, status: str) -> None:
    """Write the table, the best experiments, the page and the summary, and print them.

    Args:
        output_dir: Folder of the search.
        search: The search.
        settings: Its settings.
        status: ``finished``, ``interrupted`` or ``failed``.
    """
    from pti.tune.page import remark_on_kl, write_page

    results = collect(search, settings, output_dir)
    artefacts: dict[str, Path] = {"trials": output_dir / TABLE, "study": output_dir / DATABASE}
    write_trials(artefacts["trials"], results)
    names = _names(results, settings)
    experiments = {
        number: write_experiment(output_dir, name, *_described(results.trials[number], results, settings))
        for number, name in names.items()
    }
    _remove_stale(experiments, output_dir)
    commands = {number: train_command(output_dir, name) for number, name in names.items()}
    artefacts["page"] = write_page(output_dir, results, settings, commands)
    artefacts |= {f"experiment {names[number]}": path for number, path in experiments.items()}
    best = results.compromise
    metrics = _metrics(results, best)
    write_summary(
        output_dir,
        command="tune",
        metrics=metrics,
        artefacts=artefacts,
        config=settings.identity(),
        seed=settings.seed,
        status=status,
    )
    print_trials(results)
    following = commands[best.number] if best is not None else None
    command = following if status == "finished" else continue_command(output_dir)
    print_summary(f"tune: {status}", metrics, artefacts, command, filter(None, [remark_on_kl(settings)]))


def continue_command(output_dir: Path) -> str:
    """Return the command that continues the search."""
    kept = [text for text in typed_arguments() if not text.startswith(("output_dir=", "hydra."))]
    return shlex.join(["python", "-m", "pti.tune", *kept, f"output_dir={as_value(from_here(output_dir))}"])


def _names(results: TuneResults, settings: TuneSettings) -> dict[int, str]:
    """Return number -> name of the experiment, for each of the best trials."""
    name = f"{settings.experiment}_tuned" if settings.experiment else "tuned"
    several = len(settings.objectives) > 1
    return {trial.number: f"{name}_{trial.number:03d}" if several else name for trial in results.best}


def _described(trial: TrialResult, results: TuneResults, settings: TuneSettings) -> tuple[Any, ...]:
    values = zip(results.objectives, trial.objectives or (), strict=True)
    reached = ", ".join(f"{goal.metric} {show(value)}" for goal, value in values)
    origin = f"Trial {trial.number} of {len(results.trials)} of a search by tune: {reached}."
    return trial_experiment(settings, trial.values), origin, settings.parameters


def _remove_stale(experiments: dict[int, Path], output_dir: Path) -> None:
    """Remove the experiments of trials that were among the best at an earlier report."""
    for path in (output_dir / "experiment").glob("*tuned*.yaml"):
        if path not in experiments.values():
            path.unlink()


def _metrics(results: TuneResults, best: TrialResult | None) -> dict[str, Any]:
    metrics: dict[str, Any] = {"trials": len(results.trials), **results.counts}
    if best is not None:
        values = zip(results.objectives, best.objectives or (), strict=True)
        metrics |= {"best trial": best.number, **{goal.metric: value for goal, value in values}}
        metrics |= {"best trials": [trial.number for trial in results.best]} if len(results.best) > 1 else {}
        metrics |= best.values
    return metrics
