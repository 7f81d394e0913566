"""Checks a command line against the configuration in a fraction of a second; names the nearest right key."""

import difflib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser  # what hydra.main itself parses the command line with
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from pti.cli.value_types import expected_type, raw_value
from pti.common.conf_dir import CONF_DIR
from pti.common.errors import UsageError


@dataclass(frozen=True)
class Job:
    """One job of a sweep: the overrides that set it apart (``a=1``), as typed, and its configuration."""

    overrides: list[str]
    config: DictConfig


@dataclass(frozen=True)
class CommandLine:
    """A command line that was found right.

    Attributes:
        extra: overrides that the verb's preflight wants added; none in a sweep.
        overridden: the keys and groups that it sets.
        jobs: what a sweep (``-m``) is going to run; empty otherwise, and where the user directs Hydra's own
            sweeper.
    """

    extra: list[str] = field(default_factory=list)
    overridden: list[str] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)


def check_command_line(
    name: str,
    arguments: Sequence[str],
    preflight: Callable[[DictConfig], list[str] | None] | None = None,
) -> CommandLine:
    """Compose ``conf/<name>.yaml`` with the arguments and look at the result, job by job in a sweep.

    Args:
        name: the verb.
        arguments: the command line without the program.
        preflight: the verb's own look at the composed configuration.

    Raises:
        UsageError: a key, a group's option or a value is wrong; the message names the nearest right one.
    """
    options = get_args_parser().parse_intermixed_args(list(arguments))
    if options.config_dir or options.config_name or options.config_path:
        return CommandLine()  # the user's own configuration: Hydra itself judges it
    if options.help and not options.overrides:
        return CommandLine()
    overrides = _parse(options.overrides)
    showing = options.help or options.hydra_help or options.cfg or options.info or options.shell_completion
    swept = [override.is_sweep_override() for override in overrides]
    extra: list[str] = []
    jobs: list[Job] = []
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        for job in _jobs(overrides):
            config = _compose(name, job)
            if preflight is not None and not showing:
                extra = preflight(config) or []
            jobs.append(Job([text for text, varies in zip(job, swept, strict=True) if varies], config))
    overridden = [override.key_or_group for override in overrides]
    own_sweep = any(key.startswith(("hydra.sweep", "hydra/sweeper")) for key in overridden)
    if options.multirun and not showing and not own_sweep:
        return CommandLine(overridden=overridden, jobs=jobs)
    return CommandLine(extra, overridden)


def options_first(arguments: Sequence[str]) -> list[str]:
    """The options (``-m``) first, then all overrides: Hydra takes them in one row only."""
    overrides = get_args_parser().parse_intermixed_args(list(arguments)).overrides
    return [*(text for text in arguments if text not in overrides), *overrides]


def _parse(arguments: Sequence[str]) -> list[Override]:
    for argument in arguments:
        if "=" not in argument and not argument.startswith("~"):
            hint = f"; did you mean --{argument.lstrip('-')}?" if argument in ("help", "-help") else ""
            raise UsageError(f"'{argument}' is not a setting: expected key=value{hint}")
    try:
        return OverridesParser.create().parse_overrides(list(arguments))
    except OverrideParseException as error:
        raise UsageError(
            f"'{error.override}' could not be read: {str(error).splitlines()[0]}. "
            "Quote values with spaces, commas, brackets or '=': 'key=\"value\"'."
        ) from error


def _jobs(overrides: list[Override]) -> Iterator[list[str]]:
    """The overrides of each job: a sweep over a=1,2 is two jobs."""
    choices = [
        [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else [str(override.input_line)]
        for override in overrides
    ]
    return (list(job) for job in itertools.product(*choices))


def _compose(name: str, job: list[str]) -> DictConfig:
    try:
        config = compose(name, job, return_hydra_config=True)
    except HydraException as error:
        raise UsageError(_explain(name, job, error)) from error
    # Preflights and ${hydra:…} read from here, as they will in the run.
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    _check_types(name, job, config)
    return config


def _explain(name: str, job: list[str], error: HydraException) -> str:
    """Say which override doesn't fit the configuration, and what would."""
    known: list[str] | None = None
    for override in OverridesParser.create().parse_overrides(job):
        key = override.key_or_group
        if not _changes_a_default(override):
            continue
        if _is_group(key):
            wanted, found = override.value(), _options_of(key)
            for option in wanted if isinstance(wanted, list) else [wanted]:
                if option is not None and str(option) not in found:
                    near = _nearest(str(option), found)
                    return f"{key}={option}: there is no such option.{near} Available: {', '.join(found)}."
            if f"Could not override '{key}'" in str(error):
                return f"{key}={wanted}: this command has no such choice.{_keys_below(name, key)}"
        else:
            known = _known_keys(name, job) if known is None else known
            if known and key not in known:
                near = _nearest_key(key, known)
                return f"{key}: there is no such key.{near} `python -m pti.{name} --help` lists all keys."
    return str(error).strip()


def _changes_a_default(override: Override) -> bool:
    """Whether it sets something that the configuration has: not an addition, deletion or Hydra's own key."""
    added = override.is_add() or override.is_force_add()
    return not (added or override.is_delete() or override.key_or_group.split(".")[0] == "hydra")


def _known_keys(name: str, job: list[str]) -> list[str]:
    """All dotted keys and all groups of the configuration that the job's choices of groups give."""
    config = _compose_groups(name, job)
    return [] if config is None else [*_leaves(config, inner=True), *_groups()]


def _compose_groups(name: str, job: list[str]) -> DictConfig | None:
    """The configuration before the user's own values: only groups are chosen."""
    parsed = OverridesParser.create().parse_overrides(job)
    chosen = [text for text, override in zip(job, parsed, strict=True) if _is_group(override.key_or_group)]
    try:
        return compose(name, chosen)
    except ConfigCompositionException:
        return None


def _keys_below(name: str, group: str) -> str:
    """What a command does have under the name of a group that it doesn't take."""
    keys = [key for key in _known_keys(name, []) if key.startswith(f"{group}.")]
    return f" It has {', '.join(keys[:3])}." if keys else f" `python -m pti.{name} --help` lists all keys."


def _is_group(key: str) -> bool:
    return (CONF_DIR / key.split("@")[0]).is_dir()


def _groups() -> list[str]:
    return [folder.relative_to(CONF_DIR).as_posix() for folder in CONF_DIR.rglob("*") if folder.is_dir()]


def _options_of(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF_DIR / group.split("@")[0]).glob("*.yaml"))


def _leaves(config: Any, prefix: str = "", inner: bool = False) -> list[str]:
    keys = []
    for key in config:
        path = f"{prefix}{key}"
        child = None if OmegaConf.is_missing(config, key) else config._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_interpolation():
            keys += [path] if inner else []
            keys += _leaves(child, f"{path}.", inner)
        else:
            keys.append(path)
    return keys


def _nearest_key(key: str, known: list[str]) -> str:
    """A key that is spelt like it, or the same name elsewhere in the tree."""
    same_name = [candidate for candidate in known if candidate.split(".")[-1] == key.split(".")[-1]]
    if same_name:
        return f" Did you mean {' or '.join(sorted(same_name, key=len)[:2])}?"
    last = {candidate.split(".")[-1]: candidate for candidate in reversed(known)}
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
    near = near or [
        last[name] for name in difflib.get_close_matches(key.split(".")[-1], last, n=1, cutoff=0.6)
    ]
    return f" Did you mean {near[0]}?" if near else ""


def _nearest(word: str, options: list[str]) -> str:
    near = difflib.get_close_matches(word, options, n=1, cutoff=0.5)
    return f" Did you mean {near[0]}?" if near else ""


def _check_types(name: str, job: list[str], config: DictConfig) -> None:
    """Refuse a value whose type differs from the default's: text for a number, a number for a switch."""
    defaults = None
    for override in OverridesParser.create().parse_overrides(job):
        key = override.key_or_group
        if not _changes_a_default(override) or _is_group(key):
            continue
        defaults = defaults if defaults is not None else _compose_groups(name, job)
        if defaults is None:
            return
        old, new = raw_value(defaults, key), raw_value(config, key)
        expected = expected_type(old, new)
        if expected:
            shown = OmegaConf.to_container(new) if isinstance(new, (DictConfig, ListConfig)) else repr(new)
            raise UsageError(f"{key}={shown}: expected {expected}, such as the default {old!r}.")
