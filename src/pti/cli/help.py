"""Text of ``python -m pti.VERB --help``."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from pti.cli.options import is_sweep, parse_options
from pti.cli.path_values import quote_paths
from pti.common import conf_dir


def help_text(name: str, arguments: Sequence[str]) -> str | None:
    """Fill in the template ``conf/hydra/help``, as Hydra does; None where Hydra itself is to do it.

    Hydra copies its whole repository of configurations for every group: that took five sixths of the time.

    Args:
        name: The verb.
        arguments: A command line that `check_command_line` accepts.
    """
    options = parse_options(arguments)
    own = options.config_dir or options.config_name or options.config_path
    if not options.help or own or is_sweep(options):
        return None
    with initialize_config_dir(str(conf_dir.CONF_DIR), version_base="1.3", job_name=name):
        config = compose(name, quote_paths(options.overrides, sweep=False), return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    template = string.Template(config.hydra.help.template)
    with open_dict(config):
        del config["hydra"]
    keys = OmegaConf.to_yaml(config, resolve=options.resolve)
    return template.substitute(APP_CONFIG_GROUPS=_groups(conf_dir.CONF_DIR), CONFIG=keys)


def _groups(root: Path) -> str:
    """List the groups with their options, ``group: option, option``, one a line."""
    options: dict[str, list[str]] = {}
    for file in sorted(root.glob("*/**/*.yaml")):
        options.setdefault(file.parent.relative_to(root).as_posix(), []).append(file.stem)
    return "".join(
        f"{group}: {', '.join(options[group])}\n"
        for group in sorted(options)
        if group.split("/")[0] != "hydra"
    )
