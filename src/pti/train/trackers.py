"""Loggers outside the run's folder: MLflow and Weights & Biases. A resumed run continues its run there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL.Image import Image
from typing_extensions import override

from pti.common.files import write_json_atomically
from pti.runs.lock import exclusive
from pti.train.callbacks.forecast import Forecasted
from pti.train.callbacks.stopping import Interrupted
from pti.train.loggers import CONFIG, leaves

RUN_IDS = "run_ids.json"
"""File in a run's folder: its ids in MLflow and in Weights & Biases."""


class MLflow(MLFlowLogger):
    """MLflow, in a local database or on a server.

    The configuration becomes parameters (``model.kl_weight``) and, complete, the artifact ``config.yaml``.
    MLflow doesn't change a parameter: when a run is resumed with other settings, only the artifact follows.
    Tags become MLflow tags with the value ``true``, the group becomes the tag ``group``.

    Args:
        save_dir: the run's folder.
        tracking_uri: ``sqlite:///FILE.db`` or the address of a server.
        experiment_name: MLflow's experiment; None = ``pti``.
        run_name: None = the last two parts of ``save_dir``.
        tags: of the run.
        group: of the run; None = none.
        first_step: not needed: the steps of a resumed run overlay those that it repeats.
        settings: of Lightning's `MLFlowLogger`.
    """

    def __init__(
        self,
        save_dir: str,
        tracking_uri: str,
        experiment_name: str | None = None,
        run_name: str | None = None,
        tags: Sequence[str] = (),
        group: str | None = None,
        first_step: int | None = None,
        **settings: Any,
    ) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # a local store is to stay local
        self._folder = Path(save_dir)
        lock = contextlib.nullcontext()
        if tracking_uri.startswith("sqlite:///"):
            store = Path(tracking_uri.removeprefix("sqlite:///")).absolute().with_suffix("")
            settings = {"artifact_location": str(store), **settings}
            # Two processes that create the database at the same time would leave it half-made.
            lock = exclusive(store, f"Waiting for another run that opens {tracking_uri}.", wait=True)
        labels = {re.sub(r"[^\w./: -]", "_", str(tag)): "true" for tag in tags}
        with lock:
            super().__init__(
                experiment_name=experiment_name or "pti",
                run_name=run_name or _run_name(save_dir),
                tracking_uri=tracking_uri,
                tags=labels | ({} if group is None else {"group": str(group)}),
                **settings,
            )
        self._run_id = self._existing(_read_ids(self._folder).get("mlflow"))

    @override
    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Log new parameters and the complete configuration; note the run's id."""
        client, run_id = self.experiment, self.run_id
        _write_id(self._folder, "mlflow", str(run_id))
        client.update_run(run_id, status="RUNNING")  # a resumed run has ended before
        for name, value in (self.tags or {}).items():
            client.set_tag(run_id, name, value)
        known = client.get_run(run_id).data.params
        super().log_hyperparams({key: value for key, value in leaves(params) if key not in known})
        if (self._folder / CONFIG).is_file():
            client.log_artifact(run_id, str(self._folder / CONFIG))

    def add_picture(self, name: str, picture: Image, step: int) -> None:
        """Log a picture as a PNG artifact of its step."""
        self.experiment.log_image(self.run_id, picture, key=name, step=step)

    @override
    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """End the run as FINISHED, FAILED or, after a signal, KILLED."""
        super().finalize({"success": "FINISHED", "interrupted": "KILLED"}.get(_outcome(status), "FAILED"))

    def _existing(self, run_id: str | None) -> str | None:
        """Return the id if the store has this run."""
        if run_id is None:
            return None
        try:
            run = self._mlflow_client.get_run(run_id)
        except Exception as error:
            if getattr(error, "error_code", None) != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return run_id if run.info.lifecycle_stage == "active" else None


class Wandb(WandbLogger):
    """Weights & Biases, offline by default.

    Args:
        save_dir: the run's folder, which holds the offline data in ``wandb/``.
        offline: keep all data on this machine.
        name: of the run; None = the last two parts of ``save_dir``.
        tags: of the run.
        group: of the run; None = none.
        first_step: not needed: the steps of a resumed run overlay those that it repeats.
        settings: of Lightning's `WandbLogger`, ``project`` among them.
    """

    def __init__(
        self,
        save_dir: str,
        offline: bool = True,
        name: str | None = None,
        tags: Sequence[str] = (),
        group: str | None = None,
        first_step: int | None = None,
        **settings: Any,
    ) -> None:
        self._folder = Path(save_dir)
        self._run_id = _read_ids(self._folder).get("wandb") or secrets.token_hex(4)
        if offline:  # not by Lightning's argument, which sets WANDB_MODE for the whole process
            settings["mode"] = "offline"
        settings.setdefault("settings", {"quiet": True})
        super().__init__(
            save_dir=save_dir,
            version=self._run_id,
            name=name or _run_name(save_dir),
            tags=[str(tag) for tag in tags],
            group=None if group is None else str(group),
            **settings,
        )

    @override
    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Log the configuration; note the run's id."""
        _write_id(self._folder, "wandb", self._run_id)
        super().log_hyperparams(params)

    def add_picture(self, name: str, picture: Image, step: int) -> None:
        """Log a picture, losslessly."""
        self.log_image(name, [picture], step)

    @override
    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the run, so that the next job of a sweep begins a new one."""
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=0 if _outcome(status) == "success" else 1)


def _run_name(folder: str) -> str:
    """Name a run after its folder: ``smoke/2026-11-22_15-40-07``."""
    return "/".join(Path(folder).parts[-2:])


def _outcome(status: str) -> str:
    """Return ``success``, ``interrupted`` or ``failed``; Lightning calls both of the latter ``failed``."""
    error = sys.exc_info()[1]
    if status == "success" or isinstance(error, Forecasted):
        return "success"
    return "interrupted" if isinstance(error, Interrupted) else "failed"


def _read_ids(folder: Path) -> dict[str, str]:
    path = folder / RUN_IDS
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _write_id(folder: Path, name: str, run_id: str) -> None:
    write_json_atomically(folder / RUN_IDS, _read_ids(folder) | {name: run_id})
