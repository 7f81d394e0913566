"""Hydra's command-line options, separated from the overrides."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from pti.cli.path_values import quote_paths


def parse_options(arguments: Sequence[str]) -> Namespace:
    """Parse Hydra's options (``--cfg job``, ``-m``), in any order, and collect the rest as ``overrides``."""
    parser = ArgumentParser(add_help=False)
    parser.add_argument("overrides", nargs="*")
    for names in ("--help -h", "--hydra-help", "--version", "--resolve", "--run -r", "--multirun -m"):
        parser.add_argument(*names.split(), action="store_true")
    for names in ("--cfg -c", "--package -p", "--config-path -cp", "--config-name -cn", "--config-dir -cd"):
        parser.add_argument(*names.split())
    parser.add_argument("--shell-completion", "-sc", action="store_true")
    parser.add_argument("--experimental-rerun")
    parser.add_argument("--info", "-i", nargs="?", const="all")
    return parser.parse_intermixed_args(list(arguments))


def is_sweep(options: Namespace) -> bool:
    """Tell whether several values of a key make a sweep."""
    return options.multirun or any(text.startswith("hydra.mode=") for text in options.overrides)


def arguments_for_hydra(arguments: Sequence[str]) -> list[str]:
    """Quote paths, and move the options before the overrides, which Hydra accepts only as one sequence."""
    options = parse_options(arguments)
    overrides = quote_paths(options.overrides, is_sweep(options))
    return [*(text for text in arguments if text not in options.overrides), *overrides]
