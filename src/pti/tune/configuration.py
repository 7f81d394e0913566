"""Settings of a search, read from its configuration and its command line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pti.cli.overrides import check_command_line
from pti.common import conf_dir
from pti.common.errors import UsageError
from pti.common.path_settings import as_value, expand_home
from pti.runs.locate import resolve
from pti.tune.settings import Objective, TuneSettings
from pti.tune.space import read_space

OWN = (
    *("space", "trials", "jobs", "objectives", "method", "random_trials"),
    *("pruning", "prune_after_trials", "prune_after_epochs", "output_dir"),
)
"""Keys of `tune` that `train` does not have, and the folder, which every trial gets from the search."""

_PLACES = ("ckpt_path", "resume", "forecast", "new_sweep", "allow_config_changes")
_DIRECTIONS = ("min", "max")


def read_settings(
    config: Mapping[str, Any], overrides: Sequence[str], experiment: str | None, seed: int
) -> TuneSettings:
    """Read the settings.

    Args:
        config: ``conf/tune.yaml``, composed and resolved, with ``output_dir: .``.
        overrides: The command line, as Hydra takes it.
        experiment: Name of the experiment, if one is chosen.
        seed: Seed of the trainings and the search.

    Raises:
        UsageError: A setting does not fit the others.
    """
    passed = _overrides_of_trials(overrides)
    training = {key: value for key, value in config.items() if key not in OWN}
    passed += _weights(training)
    objectives = _objectives(config)
    if config["objectives"] is not None and len(objectives) == 1:  # best.ckpt is selected by the same metric
        goal = objectives[0]
        selection = {"monitor": goal.metric, "mode": goal.direction}
        passed += [f"callbacks.checkpointer.{key}={value}" for key, value in selection.items()]
        training["callbacks"]["checkpointer"] |= selection
    parameters = read_space(config.get("space") or {}, training, options_of_groups())
    roots = [training["data"].get(key) for key in ("root", "val_root", "test_root")]
    return TuneSettings(
        experiment=experiment,
        overrides=passed,
        parameters=parameters,
        objectives=objectives,
        trials=config["trials"],
        method=config["method"],
        random_trials=config["random_trials"],
        pruning=_pruning(config["pruning"], len(objectives)),
        prune_after_trials=config["prune_after_trials"],
        prune_after_epochs=config["prune_after_epochs"],
        seed=seed,
        training=training,
        data_roots=[str(root) for root in roots if root],
    )


def try_space(settings: TuneSettings) -> None:
    """Check that `train` accepts a number of each range, and all choices.

    Raises:
        UsageError: A searched key does not exist, or a value does not fit it.
    """
    tried = [
        [parameter.override(value) for value in parameter.choices or (parameter.low,)]
        for parameter in settings.parameters
    ]
    for number in range(max(map(len, tried))):
        searched = [texts[min(number, len(texts) - 1)] for texts in tried]
        try:
            check_command_line("train", [*settings.overrides, *searched])
        except UsageError as error:
            raise UsageError(f"space: {error}") from None


def options_of_groups() -> dict[str, list[str]]:
    """Return group (``model/path``) -> its options."""
    root, options = conf_dir.CONF_DIR, {}
    for file in sorted(root.glob("*/**/*.yaml")):
        options.setdefault(file.parent.relative_to(root).as_posix(), []).append(file.stem)
    return options


def _name(override: str) -> str:
    """Return the key or group of an override, without the prefix ``+`` or ``~``."""
    return re.split("[=@]", override.lstrip("+~"))[0]


def _overrides_of_trials(overrides: Sequence[str]) -> list[str]:
    """Return the overrides that are not the command's own, provided that they can be in an experiment."""
    passed = [text for text in overrides if _name(text).split(".")[0] not in OWN]
    for text in passed:
        name = _name(text)
        if name in _PLACES:
            raise UsageError(f"{name}: tune starts and continues its trials itself. Leave {name} out.")
        if text.startswith("~"):
            raise UsageError(f"{text}: an experiment can't remove a key. Set the key to null instead.")
    return passed


def _pruning(chosen: str, objectives: int) -> str:
    if chosen == "median" and objectives > 1:
        raise UsageError(f"pruning=median: it compares one objective, found {objectives}. Leave pruning out.")
    return chosen if chosen != "auto" else "median" if objectives == 1 else "none"


def _weights(training: dict[str, Any]) -> list[str]:
    """Resolve the checkpoints that trials start from, so that all of them start from the same ones."""
    overrides = []
    for key in ("autoencoder_ckpt", "init_from"):
        name = training.get(key)
        if name is not None and not Path(expand_home(str(name))).is_dir():
            training[key] = str(resolve(str(name)))
            overrides.append(f"{key}={as_value(training[key])}")
    return overrides


def _objectives(config: Mapping[str, Any]) -> list[Objective]:
    found = config["objectives"]
    if found is None:
        selection = config["callbacks"]["checkpointer"]
        if not isinstance(selection.get("monitor"), str):
            raise UsageError(
                f"callbacks.checkpointer.monitor={selection.get('monitor')}: a search needs one metric. Name "
                "it in objectives, such as 'objectives={val/l1:min}'."
            )
        return [Objective(selection["monitor"], selection["mode"])]
    if not isinstance(found, Mapping) or not found:
        raise UsageError(
            f"objectives={found}: expected metrics with min or max, such as {{val/l1:min,val/kl:min}}."
        )
    for metric, direction in found.items():
        if direction not in _DIRECTIONS:
            raise UsageError(f"objectives.{metric}={direction}: expected min or max.")
    return [Objective(str(metric), direction) for metric, direction in found.items()]
