"""The search itself: an Optuna study in a SQLite file that draws the same trials however often it stops."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pti.common.errors import DataError
from pti.tune.settings import TuneSettings

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

DATABASE = "study.db"
FINISHED, PRUNED, FAILED, COLLAPSED, RUNNING = "finished", "pruned", "failed", "collapsed", "running"

_NAME = "tune"
_SECONDS, _STATUS, _REASON = "seconds", "status", "reason"


class Search:
    """An Optuna study and its trials.

    Each trial is drawn by a sampler whose seed depends on the search's seed and the trial's number alone.
    Trials that run one at a time are therefore the same whether or not the search is interrupted; with
    several at a time they also depend on which of them end first.

    A trial that failed or collapsed is stored as pruned, with its status and the reason as attributes: Optuna
    ignores failed trials, and would try values like theirs again.

    Args:
        folder: Folder of ``study.db``, which is created if it does not exist.
        settings: Settings of the search.

    Raises:
        DataError: The file exists and can't be used.
    """

    def __init__(self, folder: Path, settings: TuneSettings) -> None:
        import optuna
        from sqlalchemy.exc import SQLAlchemyError

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self._settings = settings
        path = folder / DATABASE
        # The connection is opened here: a path may hold characters that have a meaning in a URL.
        connect = partial(sqlite3.connect, str(path), timeout=60, check_same_thread=False)
        try:
            self._storage = optuna.storages.RDBStorage(
                "sqlite:///study.db", engine_kwargs={"creator": connect}
            )
            self._study: Study = optuna.create_study(
                study_name=_NAME,
                storage=self._storage,
                load_if_exists=True,
                directions=[
                    "minimize" if objective.direction == "min" else "maximize"
                    for objective in settings.objectives
                ],
                pruner=self._pruner(),
            )
        except (SQLAlchemyError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(
                f"{path}: can't be used as Optuna's storage ({reason}). Choose another output_dir."
            ) from error

    @property
    def trials(self) -> Sequence[FrozenTrial]:
        """All trials, by number."""
        return self._study.get_trials(deepcopy=False)

    @property
    def study(self) -> Study:
        """The Optuna study."""
        return self._study

    def interrupted(self) -> list[Trial]:
        """Return the trials that ran when the search ended, to be run again with the same values."""
        import optuna

        study_id = self._storage.get_study_id_from_name(_NAME)
        found = []
        for frozen in self.trials:
            if frozen.state == optuna.trial.TrialState.RUNNING:
                self._study.sampler = self._sampler(frozen.number)
                number_to_id = self._storage.get_trial_id_from_study_id_trial_number
                found.append(optuna.Trial(self._study, number_to_id(study_id, frozen.number)))
                self.draw(found[-1])  # completes values of which only some were stored
        return found

    def begin(self) -> Trial | None:
        """Begin the next trial; None if the search has all its trials."""
        number = len(self.trials)
        if number >= self._settings.trials:
            return None
        self._study.sampler = self._sampler(number)
        trial = self._study.ask()
        self.draw(trial)
        return trial

    def draw(self, trial: Trial) -> dict[str, Any]:
        """Return the values of a trial by key, drawn unless it has them already."""
        return {parameter.key: parameter.suggest(trial) for parameter in self._settings.parameters}

    def report(self, trial: Trial, epoch: int, value: float) -> bool:
        """Record the validation of an epoch; return True if the trial should end.

        A trial that is run again reports the epochs of its first start too: of these, only the last one is
        judged again, because its decision may not have been acted on.
        """
        if len(self._settings.objectives) > 1:
            return False
        known = self.trials[trial.number].intermediate_values
        if epoch not in known:
            trial.report(value, epoch)
        elif epoch != max(known):
            return False
        return epoch != self._settings.last_epoch(self.draw(trial)) and trial.should_prune()

    def end(self, trial: Trial, status: str, reason: str = "", values: Sequence[float] | None = None) -> None:
        """Record the outcome of a trial.

        Args:
            trial: The trial.
            status: ``finished``, ``pruned``, ``failed`` or ``collapsed``.
            reason: Reason of a failure.
            values: Values of the objectives, if it finished.
        """
        from optuna.trial import TrialState

        trial.set_user_attr(_STATUS, status)
        if reason:
            trial.set_user_attr(_REASON, reason)
        if status == FINISHED:
            self._study.tell(trial, values)
        else:
            self._study.tell(trial, state=TrialState.PRUNED)

    def _pruner(self) -> Any:
        from optuna.pruners import MedianPruner, NopPruner

        settings = self._settings
        if settings.pruning == "none":
            return NopPruner()
        # The step of an epoch is its number, from 0.
        return MedianPruner(settings.prune_after_trials, n_warmup_steps=settings.prune_after_epochs - 1)

    def _sampler(self, number: int) -> BaseSampler:
        from optuna.samplers import RandomSampler, TPESampler

        seed = int(np.random.SeedSequence((self._settings.seed, number)).generate_state(1)[0])
        if self._settings.method == "random":
            return RandomSampler(seed=seed)
        return TPESampler(
            seed=seed, n_startup_trials=self._settings.random_trials, multivariate=True, constant_liar=True
        )


def add_seconds(trial: Trial, seconds: float) -> None:
    """Add the time of one start to a trial's running time."""
    trial.set_user_attr(_SECONDS, round(seconds + seconds_of(trial.user_attrs), 1))


def seconds_of(attributes: Mapping[str, Any]) -> float:
    """Return a trial's running time from its attributes."""
    return float(attributes.get(_SECONDS, 0.0))


def status_of(trial: FrozenTrial) -> tuple[str, str]:
    """Return a trial's status, and the reason of its failure."""
    status = trial.user_attrs.get(_STATUS, RUNNING) if trial.state.is_finished() else RUNNING
    return status, trial.user_attrs.get(_REASON, "")
