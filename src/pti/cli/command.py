"""Entry point of every command: quick checks first, one message for each mistake, exit codes."""

import atexit
import gc
import os
import re
import sys
import traceback
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from pti.cli.help import help_text
from pti.cli.installation import installation_error
from pti.cli.launchers import SUBMITTED
from pti.cli.multirun import finish_sweep, locked_sweep, run_job, sweep_overrides
from pti.cli.options import arguments_for_hydra
from pti.cli.overrides import check_command_line
from pti.cli.path_values import expand_paths
from pti.cli.storage import storage_error
from pti.common import conf_dir
from pti.common.errors import DataError, UsageError, with_causes
from pti.common.processes import keep_freed_memory, wait_asleep
from pti.common.terminal import tolerate_encoding
from pti.runs.arguments import replace_arguments

Task = Callable[[DictConfig, Path], "int | None"]
Preflight = Callable[[DictConfig], "list[str] | None"]

EXIT_FAILED, EXIT_INTERRUPTED = 1, 130

_ALLOCATIONS = 10_000
"""New objects after which Python searches for garbage, instead of 700.

Importing torch, MONAI and Lightning makes half a million objects that stay. They were searched seven times,
and the imports took 3.9 s instead of 3.1 s on one core.
"""


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
            gc.set_threshold(_ALLOCATIONS)
            # The end of the process frees all memory anyway: searching it for garbage before takes a second.
            atexit.register(gc.freeze)
            tolerate_encoding()
            wait_asleep()
            keep_freed_memory()
            sys.exit(_guarded(lambda: _run(name, task, preflight)))

        return entry

    return decorate


def _run(name: str, task: Task, preflight: Preflight | None) -> int:
    line = check_command_line(name, sys.argv[1:], preflight)
    if (text := help_text(name, sys.argv[1:])) is not None:
        print(text)
        return 0
    if not line.jobs:
        return _run_hydra(name, task, line.extra)
    with locked_sweep(name, line.jobs, "output_dir" in line.overridden) as sweep:
        if line.launcher in SUBMITTED:
            from pti.cli.submission import run_submitted, submit

            code = submit(name, line, sweep, _for_hydra(name, partial(run_submitted, sweep, name, sys.argv)))
        else:
            code = _run_hydra(name, partial(run_job, sweep, task), sweep_overrides(sweep, line.jobs))
        reported = _guarded(lambda: finish_sweep(sweep))
        return code or reported


def _run_hydra(name: str, task: Task, extra: list[str]) -> int:
    """Run the task in Hydra, once per job; return the first exit code that is not 0."""
    codes: list[int] = []
    job = _for_hydra(name, task, codes)
    replace_arguments([*arguments_for_hydra(sys.argv[1:]), *extra])
    hydra.main(version_base="1.3", config_path=str(conf_dir.CONF_DIR), config_name=name)(job)()
    return next(filter(None, codes), 0)


def _for_hydra(name: str, task: Task, codes: list[int] | None = None) -> Callable[[DictConfig], int]:
    """Return what Hydra calls for a job: it returns the exit code, and appends it to ``codes``."""

    def job(config: DictConfig) -> int:
        folder = Path(HydraConfig.get().runtime.output_dir)
        code = _guarded(lambda: task(expand_paths(config), folder), folder)
        if code >= EXIT_INTERRUPTED:
            sys.exit(code)  # a signal ends the whole sweep, not only its current job
        if codes is not None:
            codes.append(code)
        return code

    job.__module__ = f"pti.{name}"  # from which Hydra derives the job's name
    return job


def _guarded(work: Callable[[], int | None], folder: Path | None = None) -> int:
    """Run ``work`` and return the exit code; print a message for a user's mistake, a traceback for a bug.

    Args:
        work: The work.
        folder: The output folder, for the message of a full disk.
    """
    try:
        return work() or 0
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        mistake = _find_mistake(error) or storage_error(error, folder) or installation_error(error)
        if mistake is None or os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exception(error)
        else:
            print(f"Error: {mistake}", file=sys.stderr)
        return EXIT_FAILED if mistake is None else mistake.exit_code


def _find_mistake(error: Exception) -> UsageError | DataError | None:
    """Find the user's mistake inside an exception that a library raised from it, as Hydra's instantiate does.

    A constructor that refuses an argument with a ValueError also counts as a wrong configuration.
    """
    if isinstance(error, OmegaConfBaseException):
        return UsageError(str(error))
    raised = None
    for cause in with_causes(error):
        if isinstance(cause, (UsageError, DataError)):
            return cause
        if isinstance(cause, ValueError) and isinstance(raised, InstantiationException):
            key = re.search(r"full_key: (\S+)", str(raised))
            return UsageError(f"{key[1]}: {cause}" if key else str(cause))
        raised = cause
    return None
