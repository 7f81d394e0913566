"""Sweeps whose jobs Hydra's submitit launcher starts: in SLURM's queue, or as processes of this machine."""

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from subprocess import CalledProcessError

from hydra import compose, initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from pti.cli.launchers import GROUP, SLURM
from pti.cli.multirun import run_job, sweep_overrides
from pti.cli.overrides import CommandLine, Job
from pti.common import conf_dir
from pti.common.errors import UsageError
from pti.common.terminal import tolerate_encoding
from pti.runs.lock import exclusive
from pti.sweep.plan import job_name
from pti.sweep.record import INTERRUPTED, Sweep

_FOLDER = ".submitit"  # below the sweep's: logs and pickled jobs, one folder for each job
_SIGNAL = "USR1"  # the one on which training writes a checkpoint and requeues its job
_POLL_SECONDS = 5.0
_EXIT_FAILED, _EXIT_INTERRUPTED = 1, 130


def submit(name: str, line: CommandLine, sweep: Sweep, task: TaskFunction) -> int:
    """Submit the unfinished jobs of a sweep and wait for them; return the first exit code that is not 0.

    If an earlier call has submitted jobs of the same sweep and SLURM still has them, wait for those first.

    Args:
        name: The verb.
        line: The command line, with the jobs.
        sweep: Its record.
        task: What Hydra calls in each job; returns the exit code.

    Raises:
        UsageError: The launcher refuses the settings.
        SystemExit: Ctrl-C; jobs in SLURM's queue stay there.
    """
    os.environ["SUBMITIT_PREEMPT_SIGNAL"] = _SIGNAL  # read when submitit is imported, here and in the job
    try:
        if line.launcher == SLURM:
            _wait_for_slurm(sweep, "Waiting for jobs of this sweep that were submitted earlier")
        jobs = [job for job in line.jobs if not sweep.is_finished(job_name(job.overrides))]
        if not jobs:
            return 0
        where = "SLURM" if line.launcher == SLURM else "processes of this machine"
        print(
            f"Submitting {len(jobs)} of {len(line.jobs)} jobs to {where}; logs in {sweep.folder / _FOLDER}.",
            flush=True,
        )
        return _launch(name, jobs, sweep, task, line.launcher)
    except KeyboardInterrupt:
        if line.launcher == SLURM:
            print(
                "Interrupted. The jobs stay in SLURM's queue (scancel removes them), and the same command "
                "waits for them again.",
                file=sys.stderr,
            )
        raise SystemExit(_EXIT_INTERRUPTED) from None


def run_submitted(sweep: Sweep, name: str, arguments: list[str], config: DictConfig, folder: Path) -> int:
    """Run one job in the process that the launcher has started for it.

    Args:
        sweep: The sweep's record.
        name: The verb.
        arguments: ``sys.argv`` of the command line, for the records of the run.
        config: The job's configuration.
        folder: The job's folder.

    Raises:
        UsageError: Another process runs the same job.
        SystemExit: A job outside of SLURM was stopped to be started again.
    """
    tolerate_encoding()
    sys.argv = list(arguments)
    task = import_module(f"pti.{name}.__main__").main.__wrapped__
    message = f"{folder}: another process is running this job. Type the same command again after its end."
    with exclusive(sweep.folder / _FOLDER / folder.name, message, UsageError):
        code = run_job(sweep, task, config, folder)
    if code == 128 + getattr(signal, f"SIG{_SIGNAL}") and os.environ.get("SUBMITIT_EXECUTOR") == "local":
        from submitit.local.local import LOCAL_REQUEUE_RETURN_CODE

        sys.exit(LOCAL_REQUEUE_RETURN_CODE)
    return code


def _launch(name: str, jobs: Sequence[Job], sweep: Sweep, task: TaskFunction, choice: str) -> int:
    """Let Hydra's launcher submit the jobs and wait for their results."""
    own = [text for text in jobs[0].line if _is_hydras(text)]
    overrides = [[text for text in job.line if not _is_hydras(text)] for job in jobs]
    with initialize_config_dir(str(conf_dir.CONF_DIR), job_name=name, version_base="1.3"):
        extra = ["hydra.mode=MULTIRUN", *sweep_overrides(sweep, jobs)]
        config = compose(name, [*own, *overrides[0], *extra], return_hydra_config=True)
        context = HydraContext(GlobalHydra.instance().config_loader(), Callbacks(config))
        launcher = Plugins.instance().instantiate_launcher(context, task, config)
        OmegaConf.save(config, sweep.folder / "multirun.yaml")  # as Hydra's own sweeper does
        batch = config.hydra.sweeper.max_batch_size or len(jobs)
        codes = []
        for first in range(0, len(jobs), batch):
            with _announced(sweep):
                codes += _wait_for(
                    sweep, choice, partial(launcher.launch, overrides[first : first + batch], first)
                )
    return next(filter(None, codes), 0)


def _wait_for(sweep: Sweep, choice: str, launch: Callable[[], Sequence[JobReturn]]) -> list[int]:
    """Return the exit codes of a batch of jobs; if one ends without a result, wait for the others too."""
    from submitit.core.utils import FailedJobError, FailedSubmissionError, UncompletedJobError

    try:
        return [result.return_value or 0 for result in launch()]
    except (UncompletedJobError, FailedSubmissionError) as error:
        if isinstance(error.__cause__, CalledProcessError):
            raise UsageError(
                f"{GROUP}={choice}: sbatch refused the jobs: {error}. Their settings are hydra.launcher.*."
            ) from error
        lines = str(error).splitlines()
        text = str(error) if isinstance(error, FailedJobError) else " ".join(lines[:2])
        print(f"A job ended without a result. {text}", file=sys.stderr)
    except (AssertionError, NameError, ValueError) as error:
        raise UsageError(f"{GROUP}={choice}: {error}") from error
    if choice == SLURM:
        _wait_for_slurm(sweep, "Waiting for the other jobs")
    else:
        _wait_for_processes(sweep)
    return [_EXIT_FAILED]


def _wait_for_slurm(sweep: Sweep, description: str) -> None:
    """Wait for all jobs of the sweep that SLURM still has."""
    from submitit.slurm.slurm import SlurmJob

    folder, announced = sweep.folder / _FOLDER, False
    ids = [path.name for path in folder.glob("*") if re.fullmatch(r"\d+(_\d+)?", path.name)]
    jobs = [SlurmJob(folder / "%j", name) for name in sorted(ids)]
    while jobs := [job for job in jobs if not job.done() and job.state != "UNKNOWN"]:
        if not announced:
            print(f"{description}: {', '.join(job.job_id for job in jobs)}", flush=True)
            announced = True
        time.sleep(_POLL_SECONDS)


def _wait_for_processes(sweep: Sweep) -> None:
    """Wait for all jobs that this process has started on this machine."""
    for path in (sweep.folder / _FOLDER).glob("*"):
        if path.name.isdecimal():
            with suppress(ChildProcessError):
                os.waitpid(int(path.name), 0)


@contextmanager
def _announced(sweep: Sweep) -> Iterator[None]:
    """Print in the background which jobs have begun and ended."""
    over, last = threading.Event(), dict.fromkeys(sweep.jobs, "")
    last.update({result.name: result.status for result in sweep.results()})

    def announce() -> None:
        for result in sweep.results():
            if result.status != last[result.name]:
                status = "running" if result.status == INTERRUPTED else result.status
                print(f"{result.name}: {status}{result.reason and f', {result.reason}'}", flush=True)
            last[result.name] = result.status

    def follow() -> None:
        while not over.wait(_POLL_SECONDS):
            announce()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        announce()


def _is_hydras(override: str) -> bool:
    return override.lstrip("+~").startswith(("hydra.", "hydra/"))
