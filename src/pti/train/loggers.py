"""Loggers that write into the run's folder: TensorBoard and a table.

Every logger, those of `pti.train.trackers` too, gets the resolved configuration with tags and group through
``log_hyperparams`` (`LogConfiguration`), and pictures through ``add_picture``, as the pixels of the PNG files
in ``images/`` (`pti.train.callbacks.Pictures`).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL.Image import Image
from typing_extensions import override

from pti.common.nested import flatten
from pti.common.tables import read_csv

CONFIG = "config.yaml"
"""File in a run's folder: its resolved configuration."""


class LogConfiguration(Callback):
    """Give the resolved configuration to every logger when training starts.

    Args:
        config: ``conf/train.yaml``, composed, plain.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(config)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the configuration on rank 0."""
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.log_hyperparams(self.config)


class TensorBoard(TensorBoardLogger):
    """TensorBoard with one point per step in every curve.

    The tab HPARAMS shows the configuration, tags and group included, beside the metrics that select the best
    checkpoint; the tab TEXT shows it as YAML.

    Args:
        first_step: the first step that a run will log which continues in its folder: later points of the
            interrupted run are hidden. None = a new run.
        settings: of Lightning's `TensorBoardLogger`.
    """

    _epoch_logged_at = -1

    def __init__(self, first_step: int | None = None, **settings: Any) -> None:
        if first_step is not None:
            settings["purge_step"] = first_step
        super().__init__(**settings)

    @override
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write the scalars of a step, without the second ``epoch`` if training and validation log at it."""
        scalars: dict[str, Any] = dict(metrics)
        if step is not None and step <= self._epoch_logged_at:
            scalars.pop("epoch", None)
        elif step is not None:
            self._epoch_logged_at = step
        super().log_metrics(scalars, step)

    @override
    @rank_zero_only
    def log_hyperparams(self, params: Any, metrics: Any = None, step: int | None = None) -> None:
        """Write the configuration; the metrics beside it are those that validation logs."""
        from torch.utils.tensorboard.summary import hparams

        self.hparams = {**params}
        shown = {key: value if type(value) in (int, float) else str(value) for key, value in leaves(params)}
        writer = self.experiment._get_file_writer()
        for summary in hparams(shown, dict.fromkeys(_monitored(params), 0.0)):
            writer.add_summary(summary)
        config = Path(self.save_dir) / CONFIG
        if config.is_file():
            self.experiment.add_text("config", f"```yaml\n{config.read_text(encoding='utf-8')}```")

    def add_picture(self, name: str, picture: Image, step: int) -> None:
        """Write a picture, losslessly."""
        import numpy as np

        self.experiment.add_image(name, np.asarray(picture), step, dataformats="HWC")


class CsvTable(CSVLogger):
    """Table of every logged step; ``hparams.yaml`` beside it is the configuration. It holds no pictures.

    Args:
        first_step: the first step that a run will log which continues in its folder: earlier rows of the
            interrupted run, which Lightning would delete, stay in the table. None = a new run.
        settings: of Lightning's `CSVLogger`.
    """

    def __init__(self, first_step: int | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        table = Path(self.log_dir) / "metrics.csv"
        rows = read_csv(table)[1] if first_step and table.is_file() else []
        whole = [row for row in rows if None not in row.values()]  # a kill may have cut the last row
        self._earlier = [
            {name: cell for name, cell in row.items() if cell}
            for row in whole
            if int(row["step"]) < (first_step or 0)
        ]

    @property
    @override
    def experiment(self) -> Any:
        """The writer of the table, with the earlier rows."""
        begins = self._experiment is None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Experiment logs directory .* exists and is not empty")
            writer: Any = super().experiment
        if begins and self._earlier and self._experiment is not None:  # None on other ranks than 0
            writer.metrics.extend(self._earlier)
            writer.save()
        return writer


def leaves(config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """List the dotted keys and values of a configuration; empty groups count as values."""
    return [
        (key, value) for key, value in flatten(config).items() if not isinstance(value, Mapping) or not value
    ]


def _monitored(config: Mapping[str, Any]) -> list[str]:
    """Return the metrics that select the best checkpoint."""
    monitor = (config.get("callbacks") or {}).get("checkpointer", {}).get("monitor") or []
    return [monitor] if isinstance(monitor, str) else list(monitor)
