"""Sweeps on the command line (``-m``): their folder, the jobs to run, the report at the end."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from pti.cli.overrides import Job
from pti.common.errors import DataError, UsageError
from pti.common.path_settings import literal
from pti.runs.arguments import typed_arguments
from pti.runs.lock import exclusive
from pti.runs.summary import hash_config
from pti.sweep.plan import job_name, plan_sweep
from pti.sweep.record import FINISHED, WAITING, PlannedJob, Sweep

_PLACES = ("output_dir", "new_sweep", "resume", "tags", "group")
"""Keys that say where a job starts and what it is called, not what it results in."""


@contextmanager
def locked_sweep(command: str, jobs: Sequence[Job], chosen: bool) -> Iterator[Sweep]:
    """Continue an earlier sweep or begin a new one, print which, and hold the lock of its folder.

    Args:
        command: The verb.
        jobs: Jobs of the command line, in order.
        chosen: The user chose the sweep's folder (``output_dir``).

    Raises:
        UsageError: The output folder holds another sweep, is in use, or differs between the jobs.
    """
    config = jobs[0].config
    swept = {override.split("=")[0] for override in jobs[0].overrides}
    if "output_dir" in swept:
        raise UsageError(
            "output_dir: found several values, expected one folder, in which each job gets its own."
        )
    folder = Path(str(config.output_dir))
    if not chosen:
        folder = folder.parents[1 if "experiment" in swept else 0] / "sweeps"
    planned = {job_name(job.overrides): _planned(job) for job in jobs}
    sweep = plan_sweep(command, planned, folder, chosen=chosen, new=config.get("new_sweep", False))
    message = (
        f"{sweep.folder}: this sweep is being run by another process. Wait for it, or begin a new one beside "
        "it with new_sweep=true."
    )
    with exclusive(sweep.folder, message, UsageError):
        sweep.save()
        hint = ", new_sweep=true begins a new one" if "new_sweep" in config else ""
        print(f"Sweep in {sweep.folder}: {_progress(sweep, hint)}.", flush=True)
        try:
            yield sweep
        except SystemExit:
            done = f"{_count_finished(sweep)} of {_jobs(len(sweep.jobs))} finished"
            print(f"Sweep stopped, {done}. The same command continues it.", file=sys.stderr)
            raise


def sweep_overrides(sweep: Sweep, jobs: Sequence[Job]) -> list[str]:
    """Return the overrides that give Hydra the jobs' folders and keep it from printing each command line."""
    names = [job_name(job.overrides) for job in jobs]
    OmegaConf.register_new_resolver("pti_job_folder", lambda number: names[number], replace=True)
    return [
        "hydra/hydra_logging=none",
        f"hydra.sweep.dir={literal(sweep.folder.absolute())}",
        "hydra.sweep.subdir='${pti_job_folder:${hydra.job.num}}'",
    ]


def run_job(
    sweep: Sweep, task: Callable[[DictConfig, Path], "int | None"], config: DictConfig, folder: Path
) -> int:
    """Run one job, from its last checkpoint if it was interrupted; skip it if it is finished."""
    name = folder.name
    place = f"Job {list(sweep.jobs).index(name) + 1} of {len(sweep.jobs)}: {name}"
    if sweep.is_finished(name):
        print(f"{place}: finished earlier, skipped.", flush=True)
        return 0
    last = sweep.folder / name / "checkpoints" / "last.ckpt"
    if last.is_file() and sweep.status(name) != WAITING and "ckpt_path" in config:
        config.ckpt_path = str(last)
        place += f", resumed from {last}"
    print(f"\n{place}", flush=True)
    return sweep.run(name, lambda: task(config, folder))


def finish_sweep(sweep: Sweep) -> None:
    """Write the sweep's table and page and print the table, even if jobs failed."""
    results = sweep.results()
    if all(result.status != FINISHED for result in results):
        print(f"No job of the sweep in {sweep.folder} is finished, so none is compared.", file=sys.stderr)
        return
    from pti.sweep.following import following_command
    from pti.sweep.page import print_report, write_report

    pictures = None
    if any(result.checkpoint for result in results):
        from pti.sweep.same_images import same_patients

        try:
            pictures = same_patients(results)
        except (DataError, UsageError) as error:  # the metrics are useful without pictures
            print(f"The sweep's page has no pictures: {error}", file=sys.stderr)
    experiment = sweep.folder.absolute().parents[1].name
    named = sweep.folder.parent.name == "sweeps" and experiment not in ("outputs", "None")
    title = f"{experiment if named else sweep.command}: sweep of {', '.join(results[0].values) or 'one job'}"
    files = write_report(sweep.folder, results, title, pictures)
    print_report(results, files, *following_command(sweep.command, results, sweep.folder, typed_arguments()))


def _count_finished(sweep: Sweep) -> int:
    return sum(map(sweep.is_finished, sweep.jobs))


def _progress(sweep: Sweep, hint: str) -> str:
    finished, count = _count_finished(sweep), len(sweep.jobs)
    if finished == count:
        every = "its only job was" if count == 1 else f"all {count} jobs were"
        return f"{every} finished earlier; the report is written again{hint}"
    if any(sweep.status(name) != WAITING for name in sweep.jobs):
        return f"continued, {finished} of {_jobs(count)} finished"
    return _jobs(count)


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


def _planned(job: Job) -> PlannedJob:
    """Describe a job by what determines its results: its configuration without folders, and its data."""
    plain = OmegaConf.to_container(job.config)
    assert isinstance(plain, dict)
    work = {str(key): value for key, value in plain.items() if key not in _PLACES}
    roots = (
        OmegaConf.select(job.config, f"data.{key}", throw_on_resolution_failure=False)
        for key in ("root", "val_root", "test_root")
    )
    return PlannedJob(job.overrides, hash_config(work), [str(root) for root in roots if root])
