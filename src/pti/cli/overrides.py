"""Check of a command line against the configuration in a fraction of a second, before anything heavy runs."""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from pti.cli.launchers import check_launcher, refuse_launcher
from pti.cli.options import is_sweep, parse_options
from pti.cli.path_values import expand_paths, quote_paths
from pti.cli.preflight import require_seed
from pti.cli.renamed import refuse_renamed
from pti.cli.storage import require_writable
from pti.cli.suggestions import (
    changes_a_default,
    compose_groups,
    explain,
    is_group,
    refuse_text_for_group,
    texts,
)
from pti.common import conf_dir
from pti.common.errors import UsageError
from pti.common.nested import flatten
from pti.common.path_settings import is_path_key

_TYPES = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str, bool, int, float), "text"),
    list: ((list,), "a list, [a,b,c]"),
    dict: ((dict,), "a group of keys"),
}
"""Type of a default -> types of the values that can replace it, and their description."""


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        overrides: The overrides that distinguish it (``a=1``), as typed.
        config: Its configuration.
        line: All of its overrides.
    """

    overrides: list[str]
    config: DictConfig
    line: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CommandLine:
    """A valid command line.

    Attributes:
        extra: Overrides that the verb's preflight adds; none in a sweep.
        overridden: Keys and groups that the command line sets.
        jobs: Jobs of a sweep (``-m``); empty otherwise, and if the user configures Hydra's own sweeper.
        launcher: Hydra's launcher of a sweep, an option of ``hydra/launcher``.
    """

    extra: list[str] = field(default_factory=list)
    overridden: list[str] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    launcher: str = "basic"


def check_command_line(
    name: str,
    arguments: Sequence[str],
    preflight: Callable[[DictConfig], list[str] | None] | None = None,
) -> CommandLine:
    """Compose ``conf/<name>.yaml`` with the arguments and check the result, job by job in a sweep.

    Args:
        name: The verb.
        arguments: The command line without the program.
        preflight: The verb's own check of the composed configuration.

    Raises:
        UsageError: A key, an option of a group or a value is wrong; the message names the nearest right one.
        DataError: The output folder can't be written to.
    """
    options = parse_options(arguments)
    if options.config_dir or options.config_name or options.config_path:
        return CommandLine()  # Hydra itself checks the user's own configuration
    if options.help and not options.overrides:
        return CommandLine()
    overrides = _parse(quote_paths(options.overrides, is_sweep(options)))
    refuse_renamed(overrides)
    refuse_launcher(overrides, is_sweep(options))
    shows_only = options.help or options.hydra_help or options.cfg or options.info or options.shell_completion
    swept = [override.is_sweep_override() for override in overrides]
    if not is_sweep(options):
        _refuse_several_values(
            [override for override, varies in zip(overrides, swept, strict=True) if varies]
        )
    extra: list[str] = []
    jobs: list[Job] = []
    with initialize_config_dir(str(conf_dir.CONF_DIR), version_base="1.3"):
        for job in _jobs(overrides):
            config = _compose(name, job, bool(options.multirun))
            require_seed(config)
            if preflight is not None and not shows_only:
                extra = preflight(config) or []
            if not shows_only:
                require_writable(_output_folder(config, extra))
            line = texts(job)
            jobs.append(Job([text for text, varies in zip(line, swept, strict=True) if varies], config, line))
    overridden = [override.key_or_group for override in overrides]
    sweeper = ("hydra.sweep.", "hydra.sweeper.params", "hydra/sweeper")
    if options.multirun and not shows_only and not any(key.startswith(sweeper) for key in overridden):
        return CommandLine(overridden=overridden, jobs=jobs, launcher=check_launcher())
    return CommandLine(extra, overridden)


def _output_folder(config: DictConfig, extra: Sequence[str]) -> Path:
    """Return the folder of a run: the one that the preflight chose, or else ``output_dir``."""
    added = OverridesParser.create().parse_overrides(list(extra))
    chosen = [override.value() for override in added if override.key_or_group == "hydra.run.dir"]
    return Path(str([config.get("output_dir", "."), *chosen][-1]))


def _parse(arguments: list[str]) -> list[Override]:
    for argument in arguments:
        if "=" not in argument and not argument.startswith("~"):
            hint = f"; did you mean --{argument.lstrip('-')}?" if argument in ("help", "-help") else ""
            raise UsageError(f"'{argument}' is not a setting: expected key=value{hint}")
    try:
        overrides = OverridesParser.create().parse_overrides(arguments)
    except OverrideParseException as error:
        raise UsageError(
            f"'{error.override}' could not be read: {str(error).splitlines()[0]}. "
            "Quote values with spaces, commas, brackets or '=': 'key=\"value\"'."
        ) from error
    for override in overrides:
        key = override.key_or_group
        _refuse_empty(override)
        refuse_text_for_group(override)
        if is_group(key) and override.value() is None and not override.is_delete():
            raise UsageError(f"{key}=null: expected an option of this group. Omit {key} to keep its default.")
    return overrides


def _refuse_empty(override: Override) -> None:
    """Refuse ``key=`` and an empty path, as an unset shell variable leaves them.

    Raises:
        UsageError: The value is empty.
    """
    key = override.key_or_group
    written = str(override.input_line).partition("=")[2].strip()
    value = override.value()
    values = value.list if isinstance(value, ChoiceSweep) else value if isinstance(value, list) else [value]
    no_path = is_path_key(key) and any(not str(getattr(item, "text", item)).strip() for item in values)
    if not override.is_delete() and (not written or no_path):
        raise UsageError(
            f"{key}= is empty, as an unset shell variable leaves it. Give a value, or leave {key} out."
        )


def _refuse_several_values(swept: list[Override]) -> None:
    for override in swept:
        key, _, typed = str(override.input_line).partition("=")
        decimal = re.fullmatch(r"([+-]?\d+),(\d+)", typed)
        fix = (
            f"A decimal number has a point: {key}={decimal[1]}.{decimal[2]}."
            if decimal
            else f"A text with a comma needs quotes: {key}='\"{typed}\"'."
        )
        raise UsageError(f"{key}={typed}: several values are a sweep, which needs the option -m. {fix}")


def _jobs(overrides: list[Override]) -> Iterator[list[Override]]:
    """Yield the overrides of each job, in Hydra's order: a sweep over a=1,2 has two jobs."""
    choices = [
        [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else texts([override])
        for override in overrides
    ]
    parser = OverridesParser.create()
    return (parser.parse_overrides(list(job)) for job in itertools.product(*choices))


def _compose(name: str, job: list[Override], multirun: bool) -> DictConfig:
    try:
        config = compose(name, texts(job), return_hydra_config=True)
    except HydraException as error:
        raise UsageError(explain(name, job, error)) from error
    config.hydra.mode = RunMode.MULTIRUN if multirun else RunMode.RUN
    # Preflights and ${hydra:…} read from here, as they do in the run.
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    expand_paths(config)
    _check_types(name, job, OmegaConf.to_container(config))
    return config


def _check_types(name: str, job: list[Override], config: Any) -> None:
    """Refuse a value whose type differs from the default's: text for a number, a number for a switch."""
    keys = [override.key_or_group for override in job if changes_a_default(override)]
    keys = [key for key in keys if not is_group(key)]
    values, defaults = flatten(config), compose_groups(name, job) if keys else {}
    for key in keys:
        default, value = defaults.get(key), values.get(key)
        # An experiment may replace auto by a number, which does not forbid auto.
        if default == "auto" or (value == "auto" and compose_groups(name, []).get(key) == "auto"):
            continue
        if value == "auto" and (name, key) == ("train", "data.batch_size"):
            continue
        if any(item in (None, "???") or str(item).startswith("${") for item in (default, value)):
            continue
        accepted, expected = _TYPES[type(default)]
        if type(value) not in accepted:
            raise UsageError(f"{key}={value!r}: expected {expected}, such as the default {default!r}.")
