"""Hydra's compositions, computed once per process: later ones are several times faster.

Hydra reads some thirty YAML files and merges them for each composition, although the result depends only on
the files and the chosen options of groups. After `install`, it merges them once per choice and applies the
values of a command line to a copy. Files that have changed are read again.
"""

import copy
import os
from collections.abc import Iterator
from typing import Any

from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.defaults_list import DefaultsList, Overrides, create_defaults_list
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

merge = ConfigLoaderImpl._compose_config_from_defaults_list
"""Hydra's own function."""

_lists: dict[Any, DefaultsList] = {}
_configurations: dict[Any, DictConfig] = {}


def install() -> None:
    """Replace two of Hydra's functions in this process; calling it again has no effect."""
    config_loader_impl.__dict__["create_defaults_list"] = _remembered_list
    ConfigLoaderImpl._compose_config_from_defaults_list = _remembered_configuration


def uninstall() -> None:
    """Restore Hydra's own functions."""
    config_loader_impl.__dict__["create_defaults_list"] = create_defaults_list
    ConfigLoaderImpl._compose_config_from_defaults_list = merge


def _remembered_list(
    repo: IConfigRepository, config_name: str | None, overrides_list: list[Override], **settings: bool
) -> DefaultsList:
    values = Overrides(repo=repo, overrides_list=overrides_list).config_overrides
    choices = [override.input_line for override in overrides_list if override not in values]
    key = (*_sources(repo), config_name, *choices, *settings.items())
    if key not in _lists:
        _lists[key] = create_defaults_list(repo, config_name, overrides_list, **settings)
    found = _lists[key]
    return DefaultsList(copy.deepcopy(found.defaults), found.defaults_tree, values, found.overrides)


def _remembered_configuration(
    self: ConfigLoaderImpl, defaults: list[ResultDefault], repo: IConfigRepository
) -> DictConfig:
    key = (*_sources(repo), *map(repr, defaults))
    if key not in _configurations:
        _configurations[key] = merge(self, defaults, repo)
    configuration = copy.deepcopy(_configurations[key])
    OmegaConf.clear_cache(configuration)  # of the resolver ``now``
    return configuration


def _sources(repo: IConfigRepository) -> Iterator[Any]:
    """Yield what identifies the contents of the places in which Hydra looks for files."""
    for source in repo.get_sources():
        yield source.scheme(), source.path
        if source.scheme() == "file":
            yield from _files(source.path)


def _files(folder: str) -> Iterator[tuple[str, int, int]]:
    """Yield path, time of the last change (ns) and size of each file below a folder."""
    if not os.path.isdir(folder):
        return
    for entry in os.scandir(folder):
        if entry.is_dir():
            yield from _files(entry.path)
        else:
            state = entry.stat()
            yield entry.path, state.st_mtime_ns, state.st_size
