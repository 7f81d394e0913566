"""Entry point of every command: quick checks first, one message for each mistake, exit codes."""

import os
import re
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial, wraps
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from pti.cli.multirun import finish_sweep, interrupted_sweep, open_sweep, run_job, sweep_overrides
from pti.cli.options import options_first
from pti.cli.overrides import check_command_line
from pti.common import conf_dir
from pti.common.errors import DataError, UsageError
from pti.runs.lock import exclusive
from pti.sweep.record import Sweep

Task = Callable[[DictConfig, Path], "int | None"]
Preflight = Callable[[DictConfig], "list[str] | None"]

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def command(name: str, preflight: Preflight | None = None) -> Callable[[Task], Callable[[], None]]:
    """Turn ``task(config, output_dir)`` into the command ``python -m pti.<name> key=value …``.

    First the command line is checked against the configuration (unknown keys, types, options of a group),
    then ``preflight`` checks the composed configuration, both before the task imports anything heavy. The
    task runs in Hydra, with ``conf/<name>.yaml`` as its configuration.

    Args:
        name: The verb, which is also the name of its configuration.
        preflight: Cheap checks of the composed configuration; raises `UsageError` or `DataError`; may return
            further overrides (``["hydra.run.dir=…"]``) for the run.

    Returns:
        A decorator. The decorated function takes no arguments, reads ``sys.argv`` and ends the process with 0
        (done), 1 (failed, or the data cannot be used), 2 (wrong command line or configuration), 130 (Ctrl-C),
        or the task's return value.
    """

    def decorate(task: Task) -> Callable[[], None]:
        @wraps(task)
        def entry() -> None:
            sys.exit(_run(name, task, preflight))

        return entry

    return decorate


def _run(name: str, task: Task, preflight: Preflight | None) -> int:
    with ExitStack() as held:
        prepared: list[tuple[list[str], Sweep | None]] = []
        code = _guarded(lambda: prepared.append(_prepare(name, preflight, held)))
        if code:
            return code
        (extra, sweep), codes = prepared[0], []

        def job(config: DictConfig) -> None:
            output_dir = Path(HydraConfig.get().runtime.output_dir)
            if sweep is None:
                code = _guarded(lambda: task(config, output_dir))
            else:
                code = _guarded(partial(run_job, sweep, config, output_dir, task))
            if code >= EXIT_INTERRUPTED:  # a signal ends the whole sweep, not only its current job
                if sweep is not None:
                    interrupted_sweep(sweep)
                sys.exit(code)
            codes.append(code)

        _run_hydra(name, job, extra)
        if sweep is not None:
            codes.append(_guarded(lambda: finish_sweep(sweep)))
        return next((code for code in codes if code), 0)


def _prepare(name: str, preflight: Preflight | None, held: ExitStack) -> "tuple[list[str], Sweep | None]":
    """Check the command line; for a sweep, choose its folder and lock it."""
    line = check_command_line(name, sys.argv[1:], preflight)
    if not line.jobs:
        return line.extra, None
    sweep = open_sweep(name, line)
    message = (
        f"{sweep.folder}: this sweep is being run by another process. Wait for it, or begin a new one beside "
        "it with new_sweep=true."
    )
    held.enter_context(exclusive(sweep.folder, message, UsageError))
    sweep.save()
    return sweep_overrides(sweep), sweep


def _run_hydra(name: str, job: Callable[[DictConfig], None], extra: list[str]) -> None:
    arguments = sys.argv
    sys.argv = [arguments[0], *options_first(arguments[1:]), *extra]
    try:
        # Hydra derives the job's name from the module of the function that it runs.
        job.__module__ = f"pti.{name}"
        hydra.main(version_base="1.3", config_path=str(conf_dir.CONF_DIR), config_name=name)(job)()
    finally:
        sys.argv = arguments


def _guarded(work: Callable[[], Any]) -> int:
    """Run ``work`` and return the exit code; print a message for a user's mistake, a traceback for a bug."""
    try:
        return work() or 0
    except (UsageError, DataError) as error:
        return _report(error, error.exit_code)
    except OmegaConfBaseException as error:
        return _report(error, EXIT_USAGE)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        cause = _user_error(error)
        if cause is not None:
            return _report(cause, cause.exit_code)
        traceback.print_exc()
        return EXIT_FAILED


def _user_error(error: BaseException | None) -> UsageError | DataError | None:
    """Find the user's mistake inside an exception that a library raised from it, as Hydra's instantiate does.

    A constructor that refuses an argument with a ValueError also counts as a wrong configuration.
    """
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, (UsageError, DataError)):
            return error
        if isinstance(error, ValueError) and seen and isinstance(seen[-1], InstantiationException):
            key = re.search(r"full_key: (\S+)", str(seen[-1]))
            return UsageError(f"{key[1]}: {error}" if key else str(error))
        seen.append(error)
        error = error.__cause__ or error.__context__
    return None


def _report(error: BaseException, code: int) -> int:
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        traceback.print_exception(error)
    else:
        print(f"Error: {error}", file=sys.stderr)
    return code
