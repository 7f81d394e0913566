"""Explanation of overrides that do not fit the configuration, with the nearest key or option that does."""

import difflib
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from pti.common import conf_dir
from pti.common.errors import UsageError
from pti.common.nested import flatten

_OWN_KEYS = ("space.",)
"""Beginnings of keys that the user chooses: the search space of `tune`."""


def explain(name: str, job: Sequence[Override], error: Exception) -> str:
    """Name the override of a job that Hydra could not apply, and what would fit.

    Args:
        name: The verb.
        job: The overrides.
        error: Hydra's error, whose text is returned if the override cannot be determined.
    """
    keys = _known_keys(name, job)
    for override in filter(changes_a_default, job):
        key, value = override.key_or_group, override.value()
        if is_group(key):
            options = sorted(path.stem for path in _group_dir(key).glob("*.yaml"))
            for option in value if isinstance(value, list) else [value]:
                if option is not None and str(option) not in options:
                    near = _did_you_mean(difflib.get_close_matches(str(option), options, n=1, cutoff=0.5))
                    return f"{key}={option}: there is no such option.{near} Available: {', '.join(options)}."
            if f"Could not override '{key}'" in str(error):
                below = [known for known in _known_keys(name, []) if known.startswith(f"{key}.")][:3]
                hint = f"It has {', '.join(below)}." if below else _all_keys(name)
                return f"{key}={value}: this command has no such choice. {hint}"
        elif key.startswith(_OWN_KEYS):
            return f"{key}: this key is new, so write +{key}=… to add it."
        elif keys and key not in keys:
            return f"{key}: there is no such key.{_nearest_key(key, keys)} {_all_keys(name)}"
    return str(error).strip()


def changes_a_default(override: Override) -> bool:
    """Return whether an override sets an existing key, unlike an addition, a deletion or a key of Hydra's."""
    added = override.is_add() or override.is_force_add()
    return not (added or override.is_delete() or re.match(r"hydra[./]", override.key_or_group))


def is_group(key: str) -> bool:
    """Tell whether an override chooses an option of a group."""
    return _group_dir(key).is_dir()


def refuse_text_for_group(override: Override) -> None:
    """Refuse ``data.augmentation=none``: an option is chosen with ``data/augmentation=none``.

    Raises:
        UsageError: The override sets the place of a group's keys to a text.
    """
    key, value = override.key_or_group, override.value()
    if "." in key and is_group(group := key.replace(".", "/")) and isinstance(value, str):
        raise UsageError(f"{key}={value}: to choose an option of a group, write {group}={value}.")


def texts(job: Sequence[Override]) -> list[str]:
    """Return overrides as they are typed."""
    return [str(override.input_line) for override in job]


def compose_groups(name: str, job: Sequence[Override]) -> dict[str, Any]:
    """Compose the configuration with a job's choices of groups only, as flat containers.

    Returns:
        Empty if the choices do not fit together.
    """
    choices = texts([override for override in job if is_group(override.key_or_group)])
    return _compose_choices(conf_dir.CONF_DIR, name, tuple(choices))


@lru_cache
def _compose_choices(root: Path, name: str, choices: tuple[str, ...]) -> dict[str, Any]:
    """Compose as `compose_groups` does; the jobs of a sweep mostly differ in values and share the result."""
    try:
        config: Any = OmegaConf.to_container(compose(name, list(choices)))
    except ConfigCompositionException:
        return {}
    return flatten(config)


def _known_keys(name: str, job: Sequence[Override]) -> list[str]:
    """List all dotted keys of the configuration with the job's choices of groups, and all groups."""
    keys, root = compose_groups(name, job), conf_dir.CONF_DIR
    groups = [folder.relative_to(root).as_posix() for folder in root.rglob("*") if folder.is_dir()]
    return [*keys, *groups] if keys else []


def _group_dir(key: str) -> Path:
    return conf_dir.CONF_DIR / key.split("@")[0]


def _all_keys(name: str) -> str:
    return f"`python -m pti.{name} --help` lists all keys."


def _nearest_key(key: str, known: list[str]) -> str:
    """Suggest a key with the same name elsewhere in the tree, or one with a similar spelling."""
    name = key.split(".")[-1]
    by_name = {candidate.split(".")[-1]: candidate for candidate in reversed(known)}
    return _did_you_mean(
        sorted((candidate for candidate in known if candidate.split(".")[-1] == name), key=len)[:2]
        or difflib.get_close_matches(key, known, n=1, cutoff=0.7)
        or [by_name[match] for match in difflib.get_close_matches(name, by_name, n=1, cutoff=0.6)]
    )


def _did_you_mean(names: Sequence[str]) -> str:
    return f" Did you mean {' or '.join(names)}?" if names else ""
