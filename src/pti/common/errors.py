"""Errors that a user can fix; commands turn them into a message and an exit code."""

from collections.abc import Iterator


class UsageError(Exception):
    """The command line or the configuration is wrong (exit code 2).

    The message names the key, what was found, what was expected and the fix.
    """

    exit_code = 2


class DataError(Exception):
    """The data cannot be used, or the work failed for a reason that the user can fix (exit code 1).

    The message names the file or folder, what was found, what was expected and the fix.
    """

    exit_code = 1


def with_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, then the errors that it was raised from or while handling, the nearest first."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
