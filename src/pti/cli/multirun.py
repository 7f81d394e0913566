"""Sweeps on the command line (``-m``): their folder, the jobs to run, the report at the end."""

import sys
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pti.cli.overrides import CommandLine, Job
from pti.common.errors import DataError, UsageError
from pti.runs.summary import hash_config
from pti.sweep.plan import job_name, plan_sweep, plan_sweep_in
from pti.sweep.record import FINISHED, WAITING, PlannedJob, Sweep

_IGNORED_KEYS = ("output_dir", "new_sweep")
_FOLDER_RESOLVER = "pti_job_folder"


def open_sweep(command: str, line: CommandLine) -> Sweep:
    """Continue an earlier sweep or begin a new one, and print which.

    Raises:
        UsageError: The output folder holds another sweep, or differs between the jobs.
    """
    jobs = [_planned(job) for job in line.jobs]
    config = line.jobs[0].config
    new = bool(config.get("new_sweep", False))
    if any(text.startswith("output_dir=") for job in jobs for text in job.overrides):
        raise UsageError(
            "output_dir: found several values, expected one folder, in which each job gets its own."
        )
    folder = Path(str(config.output_dir))
    if "output_dir" in line.overridden:
        sweep = plan_sweep_in(folder, command, jobs, new)
    else:
        several = any(text.startswith("experiment=") for job in jobs for text in job.overrides)
        parent = folder.parents[1] if several else folder.parent
        sweep = plan_sweep(command, jobs, parent / "sweeps", new)
    _register_folder_names(jobs)
    finished = sum(map(sweep.is_finished, sweep.jobs))
    begun = any(sweep.status(name) != WAITING for name in sweep.jobs)
    state = f"continued, {finished} of {len(jobs)} jobs finished" if begun else f"{len(jobs)} jobs"
    if finished == len(jobs):
        state = f"all {len(jobs)} jobs were finished earlier; the report is written again"
        state += ", new_sweep=true begins a new one" if "new_sweep" in config else ""
    print(f"Sweep in {sweep.folder}: {state}.", flush=True)
    return sweep


def sweep_overrides(sweep: Sweep) -> list[str]:
    """Return the overrides that give Hydra the jobs' folders and keep it from printing each command line."""
    return [
        "hydra/hydra_logging=none",
        f"hydra.sweep.dir='{sweep.folder.absolute()}'",
        f"hydra.sweep.subdir='${{{_FOLDER_RESOLVER}:${{hydra.overrides.task}}}}'",
    ]


def run_job(
    sweep: Sweep, config: DictConfig, folder: Path, task: Callable[[DictConfig, Path], "int | None"]
) -> int:
    """Run one job, from its last checkpoint if it was interrupted; skip it if it is finished."""
    name = folder.name
    place = f"Job {list(sweep.jobs).index(name) + 1} of {len(sweep.jobs)}: {name}"
    if sweep.is_finished(name):
        print(f"{place}: finished earlier, skipped.", flush=True)
        return 0
    checkpoint = sweep.checkpoint_of(name)
    if checkpoint is not None and "ckpt_path" in config:
        config.ckpt_path = str(checkpoint)
        place += f", resumed from {checkpoint}"
    print(f"\n{place}", flush=True)
    return sweep.run(name, lambda: task(config, folder))


def finish_sweep(sweep: Sweep) -> None:
    """Write the sweep's table and page and print the table, even if jobs failed."""
    results = sweep.results()
    if all(result.status != FINISHED for result in results):
        print(f"No job of the sweep in {sweep.folder} is finished, so none is compared.", file=sys.stderr)
        return
    from pti.sweep.page import print_report, swept_keys, write_report

    pictures = None
    if any(list((result.folder / "checkpoints").glob("*.ckpt")) for result in results):
        from pti.sweep.same_images import same_patients

        try:
            pictures = same_patients(results)
        except (DataError, UsageError) as error:  # the metrics are useful without pictures
            print(f"The sweep's page has no pictures: {error}", file=sys.stderr)
    title = f"{_experiment(sweep)}: sweep of {', '.join(swept_keys(results)) or 'one job'}"
    print_report(results, write_report(sweep.folder, results, title, pictures))


def interrupted_sweep(sweep: Sweep) -> None:
    """Print how many jobs are finished and how to continue."""
    finished = sum(map(sweep.is_finished, sweep.jobs))
    print(
        f"Sweep stopped, {finished} of {len(sweep.jobs)} jobs finished. The same command continues it.",
        file=sys.stderr,
    )


def _experiment(sweep: Sweep) -> str:
    """Return the experiment that the sweep's folder belongs to, or else the command."""
    experiment = sweep.folder.absolute().parents[1].name
    named = sweep.folder.parent.name == "sweeps" and experiment not in ("outputs", "None")
    return experiment if named else sweep.command


def _planned(job: Job) -> PlannedJob:
    plain = OmegaConf.to_container(job.config, resolve=False)
    assert isinstance(plain, dict)
    work = {str(key): value for key, value in plain.items() if key not in _IGNORED_KEYS}
    return PlannedJob(tuple(job.overrides), hash_config(work), _data_roots(job.config))


def _data_roots(config: DictConfig) -> tuple[str, ...]:
    roots = []
    for key in ("root", "val_root", "test_root"):
        try:
            root = OmegaConf.select(config, f"data.{key}", throw_on_missing=False)
        except OmegaConfBaseException:
            continue
        if root is not None:
            roots.append(str(root))
    return tuple(roots)


def _register_folder_names(jobs: list[PlannedJob]) -> None:
    """Register a resolver that names a job's folder after the swept overrides alone, not all overrides."""
    keys = {override.split("=", 1)[0] for job in jobs for override in job.overrides}

    def folder(overrides: list[str]) -> str:
        return job_name([override for override in overrides if override.split("=", 1)[0] in keys])

    OmegaConf.register_new_resolver(_FOLDER_RESOLVER, folder, replace=True)
