"""Settings of a search, and their record in its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pti.common.errors import DataError, UsageError
from pti.common.files import write_json_atomically
from pti.common.nested import flatten
from pti.common.path_settings import setting
from pti.tune.space import Parameter

STUDY_FILE = "study.json"
_MAX_LISTED = 8
_ABSENT = "absent"


@dataclass(frozen=True)
class Objective:
    """A metric of a trial's best epoch, and whether lower (``min``) or higher (``max``) values are better."""

    metric: str
    direction: str

    def cost(self, value: float) -> float:
        """Return a number that is lower for a better value."""
        return value if self.direction == "min" else -value


@dataclass(frozen=True)
class TuneSettings:
    """Settings of a search.

    Attributes:
        experiment: Name of the experiment that the trials train; None if the command line names none.
        overrides: Command line of every trial, without the searched keys and the folder.
        parameters: The search space.
        objectives: One metric, or several.
        trials: Number of trials in all.
        method: ``tpe`` or ``random``.
        random_trials: Random trials at the beginning of ``tpe``.
        pruning: ``median`` or ``none``.
        prune_after_trials: Finished trials before the first pruning.
        prune_after_epochs: Epochs that every trial is given.
        seed: Seed of the search.
        training: Configuration of a training, resolved.
        data_roots: Folders of the data set.
    """

    experiment: str | None
    overrides: list[str]
    parameters: list[Parameter]
    objectives: list[Objective]
    trials: int
    method: str
    random_trials: int
    pruning: str
    prune_after_trials: int
    prune_after_epochs: int
    seed: int
    training: dict[str, Any]
    data_roots: list[str]

    def identity(self) -> dict[str, Any]:
        """Return everything that the trials' results depend on, as plain containers; not their number."""
        names = (
            "experiment",
            "method",
            "random_trials",
            "pruning",
            "prune_after_trials",
            "prune_after_epochs",
        )
        return {
            **{name: getattr(self, name) for name in names},
            "space": {parameter.key: parameter.describe() for parameter in self.parameters},
            "objectives": {objective.metric: objective.direction for objective in self.objectives},
            "training": self.training,
        }

    def last_epoch(self, values: Mapping[str, Any]) -> int | None:
        """Return the number of a trial's last epoch, from 0; None if steps or time limit its training.

        Args:
            values: Searched key -> the trial's value.
        """
        key = "trainer.max_epochs"
        epochs = values.get(key, self.training.get("trainer", {}).get("max_epochs"))
        return epochs - 1 if isinstance(epochs, int) and epochs > 0 else None


def write_record(folder: Path, settings: TuneSettings, data_state: str | None) -> None:
    """Write ``study.json`` with the settings, and the state of the data set once it exists."""
    write_json_atomically(folder / STUDY_FILE, {"settings": settings.identity(), "data_state": data_state})


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return the content of ``study.json``; None if the folder holds no search.

    Raises:
        DataError: The file can't be read as such a record.
    """
    path = folder / STUDY_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not written by tune ({error}). Choose another output_dir.") from None
    if not isinstance(record, dict) or not isinstance(record.get("settings"), dict):
        raise DataError(f"{path}: not written by tune. Choose another output_dir.")
    return record


def is_same(record: Mapping[str, Any], settings: TuneSettings) -> bool:
    """Tell whether a record is that of a search with these settings."""
    return not _changes(record["settings"], settings.identity())


def require_same(
    folder: Path, record: Mapping[str, Any], settings: TuneSettings, data_state: str | None
) -> None:
    """Refuse to continue a search with other settings, or on data that have changed.

    Raises:
        UsageError: The message lists the differences.
    """
    place = setting("output_dir", folder)
    changes = _changes(record["settings"], settings.identity())
    if changes:
        lines = "".join(f"\n  {change}" for change in changes[:_MAX_LISTED])
        more = f"\n  and {len(changes) - _MAX_LISTED} more" if len(changes) > _MAX_LISTED else ""
        raise UsageError(
            f"{place}: found a search with other settings, so its trials can't be compared with new ones:"
            f"{lines}{more}\nRestore these settings, or choose another output_dir."
        )
    if record.get("data_state") not in (None, data_state):
        raise UsageError(
            f"{place}: the data set has changed since this search began, so its trials can't be compared "
            "with new ones. Restore the data, or choose another output_dir."
        )


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    before, now = (
        {
            key.removeprefix("training."): value
            for key, value in flatten(json.loads(json.dumps(found))).items()
        }
        for found in (old, new)
    )
    keys = [
        key for key in dict.fromkeys([*before, *now]) if not isinstance(now.get(key, before.get(key)), dict)
    ]
    return [
        f"{key}: {before.get(key, _ABSENT)} in the search, now {now.get(key, _ABSENT)}"
        for key in keys
        if before.get(key, _ABSENT) != now.get(key, _ABSENT)
    ]
