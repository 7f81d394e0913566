"""The command line as the user typed it, for records of a run and for commands to type next."""

import sys
from collections.abc import Sequence

_typed: list[str] = []
_replaced_by: list[str] | None = None


def replace_arguments(arguments: Sequence[str]) -> None:
    """Replace the arguments in ``sys.argv`` by those for Hydra, and keep what the user typed."""
    global _typed, _replaced_by
    _typed, _replaced_by = sys.argv[1:], list(arguments)
    sys.argv = [sys.argv[0], *arguments]


def typed_arguments() -> list[str]:
    """Return the arguments as the user typed them, without the program."""
    return list(_typed if sys.argv[1:] == _replaced_by else sys.argv[1:])
