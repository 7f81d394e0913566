"""Hydra's launchers of sweeps: which one the command line chooses, and checks before anything runs."""

import shutil
from collections.abc import Sequence
from importlib.util import find_spec

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override

from pti.common.errors import UsageError

GROUP = "hydra/launcher"
SLURM = "submitit_slurm"
SUBMITTED = (SLURM, "submitit_local")
"""Launchers that start jobs outside of this process: in SLURM's queue, or as processes of this machine."""


def refuse_launcher(overrides: Sequence[Override], sweeps: bool) -> None:
    """Refuse a launcher without a sweep, or without its package.

    Args:
        overrides: Overrides of the command line.
        sweeps: The command line is a sweep.

    Raises:
        UsageError: The message names the option or the extra.
    """
    for override in overrides:
        choice = override.value()
        if override.key_or_group != GROUP:
            continue
        if not sweeps:
            raise UsageError(f"{GROUP}={choice}: a launcher starts the jobs of a sweep. Add the option -m.")
        if choice in SUBMITTED:
            require_package(f"{GROUP}={choice}")


def require_package(setting: str) -> None:
    """Raise `UsageError` if the package of the submitit launchers is not installed."""
    if any(find_spec(name) is None for name in ("submitit", "hydra_plugins")):
        raise UsageError(
            f"{setting} needs the package hydra-submitit-launcher: python -m pip install 'pti[slurm]'."
        )


def check_launcher() -> str:
    """Return the launcher of the composed configuration after checking that it can start jobs.

    Raises:
        UsageError: This machine has no SLURM, or a job would consist of several tasks.
    """
    hydra = HydraConfig.get()
    choice = str(hydra.runtime.choices.get(GROUP))
    if choice not in SUBMITTED:
        return choice
    if choice == SLURM and not all(map(shutil.which, ("sbatch", "srun"))):
        raise UsageError(
            f"{GROUP}={choice}: this machine has no sbatch and srun. Start the sweep on a machine from which "
            "you can submit jobs to SLURM."
        )
    for key in ("tasks_per_node", "nodes"):
        if hydra.launcher[key] != 1:
            raise UsageError(
                f"hydra.launcher.{key}={hydra.launcher[key]}: expected 1. A job of a sweep is one task, "
                "which starts a process for each device itself; hydra.launcher.gpus_per_node and "
                "trainer.devices set their number. For several nodes, see conf/cluster/slurm.sbatch."
            )
    return choice
