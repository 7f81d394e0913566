"""Hydra's command-line options, separated from the overrides."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence


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


def options_first(arguments: Sequence[str]) -> list[str]:
    """Move the options before the overrides, which Hydra accepts only as one uninterrupted sequence."""
    overrides = parse_options(arguments).overrides
    return [*(text for text in arguments if text not in overrides), *overrides]
