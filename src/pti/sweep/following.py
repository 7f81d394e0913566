"""The command to run after a sweep."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from pti.common.conf_dir import CONF_DIR
from pti.common.path_settings import as_value, setting
from pti.runs.summary import from_here
from pti.sweep.page import CHOSEN_BY, best_jobs, changes_kl
from pti.sweep.record import FINISHED, JobResult

_DATA = ("data.", "data=", "data/")
_FIRST_STAGE = "val/kl"  # a metric that only autoencoders have


def following_command(
    command: str, results: Sequence[JobResult], folder: Path, arguments: Sequence[str]
) -> tuple[str | None, str]:
    """Return the command that uses the trained models of a sweep, and a remark on it.

    - Folds of stage 1: the sweep that trains stage 2 with them.
    - Other stage 1: `reconstruct` with the job of the lowest validation error.
    - Other models on different data: a sweep of `evaluate`, each on its own test patients.
    - Other models on the same data: `evaluate`, which compares them on the validation patients.

    Args:
        command: The verb of the jobs; after others than ``train``, each job has printed what follows it.
        results: The jobs.
        folder: The sweep's folder.
        arguments: The command line, without the program.

    Returns:
        None and an empty text if nothing follows.
    """
    jobs = [result for result in results if result.status == FINISHED and result.checkpoint]
    if command != "train" or not jobs:
        return None, ""
    paths = [from_here(result.checkpoint) for result in jobs if result.checkpoint]
    other_data = any(key.startswith(_DATA) for key in jobs[0].values)
    if jobs[0].metric(_FIRST_STAGE) is not None:
        if "data.fold" in jobs[0].values:
            data = shlex.join(text for text in arguments if text.startswith(_DATA))
            sweep = setting("autoencoder_ckpt", from_here(folder))
            return f"python -m pti.train -m experiment={_second_stage(arguments)} {data} {sweep}", ""
        best = best_jobs(jobs, CHOSEN_BY)
        chosen = [path for job, path in zip(jobs, paths, strict=True) if job.name in best] or paths
        remark = f"The lowest {CHOSEN_BY} is that of {' and '.join(sorted(best))}." if best else ""
        if best and changes_kl(jobs):
            remark += f" A smaller KL weight usually lowers {CHOSEN_BY}: sweep.html shows its cost in val/kl."
        return f"python -m pti.reconstruct {setting('ckpt', chosen[0])} split=val", remark
    if len(paths) == 1:
        return f"python -m pti.evaluate {setting('ckpt', paths[0])}", ""
    listed = ",".join(map(as_value, paths))
    if other_data:
        return f"python -m pti.evaluate -m {shlex.quote(f'ckpt={listed}')}", ""
    return f"python -m pti.evaluate {shlex.quote(f'ckpt=[{listed}]')} split=val", ""


def _second_stage(arguments: Sequence[str]) -> str:
    """Return the diffusion experiment named like that of stage 1, ``ldm_demo`` after ``vae_demo``."""
    chosen = [text.removeprefix("experiment=") for text in arguments if text.startswith("experiment=")]
    name = chosen[-1].replace("vae_", "ldm_") if chosen else ""
    is_new = name not in chosen and (CONF_DIR / "experiment" / f"{name}.yaml").is_file()
    return name if is_new else "EXPERIMENT"
