"""The best trial as an experiment, which ``train`` takes with ``--config-dir``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pti.cli.suggestions import is_group
from pti.common.files import write_text_atomically
from pti.common.path_settings import expand_home, is_path_key
from pti.runs.summary import from_here
from pti.tune.settings import TuneSettings
from pti.tune.space import Parameter


@dataclass(frozen=True)
class TrialExperiment:
    """What a trial sets beyond its experiment.

    Attributes:
        base: The experiment that it builds on, if any.
        groups: Groups -> chosen options, with the words of a defaults list (``override /model/path``).
        values: Dotted keys -> values.
    """

    base: str | None
    groups: dict[str, Any]
    values: dict[str, Any]

    def to_yaml(self, comment: str) -> str:
        """Return the text of ``experiment/NAME.yaml``; ``comment`` says where it comes from."""
        import yaml

        included = [self.base] if self.base else []
        choices = [f"{group}: {_inline(option)}" for group, option in self.groups.items()]
        defaults = "".join(f"  - {entry}\n" for entry in [*included, *choices, "_self_"])
        values = yaml.safe_dump(_nested(self.values), sort_keys=False, allow_unicode=True, width=110)
        return f"# @package _global_\n{comment}defaults:\n{defaults}\n{values}"


def trial_experiment(settings: TuneSettings, values: Mapping[str, Any]) -> TrialExperiment:
    """Describe a trial as an experiment.

    Args:
        settings: Settings of the search.
        values: Searched key -> the trial's value.
    """
    chosen: dict[str, Any] = {}
    set_values: dict[str, Any] = {}
    for text in settings.overrides:
        key, _, typed = text.partition("=")
        name = key.lstrip("+")
        if name == "experiment":
            continue
        if is_group(name):
            chosen[_entry(name, added=key.startswith("+"))] = _option(typed)
        else:
            set_values[name] = _value_at(settings.training, name)
    for parameter in settings.parameters:
        value = values[parameter.key]
        if "/" in parameter.key:
            chosen[_entry(parameter.key, added=False)] = value
        else:
            set_values[parameter.key] = value
    return TrialExperiment(settings.experiment, chosen, set_values)


def write_experiment(
    output_dir: Path, name: str, experiment: TrialExperiment, origin: str, parameters: Sequence[Parameter]
) -> Path:
    """Write ``experiment/NAME.yaml`` and return its path.

    Args:
        output_dir: Folder of the search.
        name: Name of the experiment.
        experiment: The experiment.
        origin: Sentence that says which trial it is.
        parameters: The search space, named in the header.
    """
    searched = ", ".join(parameter.key for parameter in parameters)
    comment = f"# {origin}\n# Searched: {searched}.\n# {train_command(output_dir, name)}\n"
    path = output_dir / "experiment" / f"{name}.yaml"
    write_text_atomically(path, experiment.to_yaml(comment))
    return path


def train_command(output_dir: Path, name: str) -> str:
    """Return the command that trains the experiment."""
    folder = shlex.quote(str(from_here(output_dir)))
    return f"python -m pti.train --config-dir {folder} experiment={name}"


def _inline(option: Any) -> str:
    return f"[{', '.join(option)}]" if isinstance(option, list) else "null" if option is None else str(option)


def _entry(group: str, added: bool) -> str:
    return f"/{group}" if added else f"override /{group}"


def _option(typed: str) -> Any:
    inside = re.fullmatch(r"\[(.*)\]", typed)
    return [item.strip() for item in inside[1].split(",") if item.strip()] if inside else typed


def _value_at(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value[int(part)] if isinstance(value, list) else value[part]
    if is_path_key(key) and isinstance(value, str):
        return str(Path(expand_home(value)).absolute())
    return value


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in values.items():
        *parents, last = key.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return nested
