"""Explanation of overrides that do not fit the configuration, with the nearest key or option that does."""

import difflib
from collections.abc import Sequence
from typing import Any

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from pti.common import conf_dir


def explain(name: str, job: Sequence[str], error: Exception) -> str:
    """Name the override of a job that Hydra could not apply, and what would fit.

    Args:
        name: The verb.
        job: The overrides.
        error: Hydra's error, whose text is returned if the override cannot be determined.
    """
    keys: list[str] | None = None
    for override in OverridesParser.create().parse_overrides(list(job)):
        key = override.key_or_group
        if not changes_a_default(override):
            continue
        if is_group(key):
            value, options = override.value(), _options_of(key)
            for option in value if isinstance(value, list) else [value]:
                if option is not None and str(option) not in options:
                    near = _nearest(str(option), options)
                    return f"{key}={option}: there is no such option.{near} Available: {', '.join(options)}."
            if f"Could not override '{key}'" in str(error):
                return f"{key}={value}: this command has no such choice.{_keys_below(name, key)}"
        else:
            keys = _known_keys(name, job) if keys is None else keys
            if keys and key not in keys:
                near = _nearest_key(key, keys)
                return f"{key}: there is no such key.{near} `python -m pti.{name} --help` lists all keys."
    return str(error).strip()


def changes_a_default(override: Override) -> bool:
    """Tell whether an override sets an existing key, unlike an addition, a deletion or a key of Hydra's."""
    added = override.is_add() or override.is_force_add()
    return not (added or override.is_delete() or override.key_or_group.split(".")[0] == "hydra")


def is_group(key: str) -> bool:
    """Tell whether an override chooses an option of a group."""
    return (conf_dir.CONF_DIR / key.split("@")[0]).is_dir()


def compose_groups(name: str, job: Sequence[str]) -> dict[str, Any] | None:
    """Compose the configuration with a job's choices of groups only, as plain unresolved containers.

    Returns:
        None if the choices do not fit together.
    """
    parsed = OverridesParser.create().parse_overrides(list(job))
    choices = [text for text, override in zip(job, parsed, strict=True) if is_group(override.key_or_group)]
    try:
        config: Any = OmegaConf.to_container(compose(name, choices))
    except ConfigCompositionException:
        return None
    return config


def _known_keys(name: str, job: Sequence[str]) -> list[str]:
    """List all dotted keys of the configuration with the job's choices of groups, and all groups."""
    config, root = compose_groups(name, job), conf_dir.CONF_DIR
    groups = [folder.relative_to(root).as_posix() for folder in root.rglob("*") if folder.is_dir()]
    return [] if config is None else [*_dotted_keys(config), *groups]


def _dotted_keys(config: dict[str, Any], prefix: str = "") -> list[str]:
    keys = []
    for key, value in config.items():
        keys.append(f"{prefix}{key}")
        keys += _dotted_keys(value, f"{prefix}{key}.") if isinstance(value, dict) else []
    return keys


def _keys_below(name: str, group: str) -> str:
    """List some keys that a command has under the name of a group that it does not take."""
    keys = [key for key in _known_keys(name, []) if key.startswith(f"{group}.")]
    return f" It has {', '.join(keys[:3])}." if keys else f" `python -m pti.{name} --help` lists all keys."


def _options_of(group: str) -> list[str]:
    return sorted(path.stem for path in (conf_dir.CONF_DIR / group.split("@")[0]).glob("*.yaml"))


def _nearest_key(key: str, known: list[str]) -> str:
    """Suggest a key with a similar spelling, or the same name elsewhere in the tree."""
    name = key.split(".")[-1]
    same_name = [candidate for candidate in known if candidate.split(".")[-1] == name]
    if same_name:
        return f" Did you mean {' or '.join(sorted(same_name, key=len)[:2])}?"
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
    by_name = {candidate.split(".")[-1]: candidate for candidate in reversed(known)}
    near = near or [by_name[match] for match in difflib.get_close_matches(name, by_name, n=1, cutoff=0.6)]
    return f" Did you mean {near[0]}?" if near else ""


def _nearest(word: str, options: list[str]) -> str:
    near = difflib.get_close_matches(word, options, n=1, cutoff=0.5)
    return f" Did you mean {near[0]}?" if near else ""
