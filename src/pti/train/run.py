"""One training run in one process: put together, run, concluded."""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
from hydra.utils import instantiate
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from pti.common.errors import DataError, UsageError
from pti.modules.tif_data import TifDataModule
from pti.runs.first_stage import embed_first_stage_config, load_first_stage_weights
from pti.runs.renamed import FORMAT
from pti.runs.summary import package_versions
from pti.train.callbacks import AtomicCheckpointIO, Checkpointer, Interrupted, Randomness, StopSignals
from pti.train.console import conclude, print_config, print_plan, require_sound_data
from pti.train.launch import count_devices, started_by_launcher, started_from_outside
from pti.train.resume import Start, exclusive_run, find_start


class Training:
    """What ``pti.train.train`` runs.

    Args:
        config: ``conf/train.yaml``, composed; ``output_dir`` in it is replaced.
        output_dir: the run's folder.
        signals: notes signals while batches are being trained.
    """

    def __init__(self, config: DictConfig, output_dir: Path, signals: StopSignals) -> None:
        config = config.copy()
        OmegaConf.update(config, "output_dir", str(output_dir))
        plain = OmegaConf.to_container(config, resolve=True)
        assert isinstance(plain, dict)
        self.plain: dict[str, Any] = {str(key): value for key, value in plain.items()}
        self._autoencoder = embed_first_stage_config(self.plain)
        self.config = OmegaConf.create(self.plain)
        self.output_dir = output_dir
        self.signals = signals
        self.trainer: Trainer | None = None
        self.module: LightningModule | None = None
        self.datamodule: TifDataModule | None = None
        self.checkpointer: Checkpointer | None = None
        self.start: Start | None = None
        self.leading = int(getattr(rank_zero_only, "rank", 0) or 0) == 0
        self._began = time.monotonic()

    def run(self) -> None:
        """Build everything from the configuration, and fit."""
        _quieten()
        with exclusive_run(self.output_dir) if self.leading else contextlib.nullcontext():
            if self.leading:
                print_config(self.plain)
            lightning.seed_everything(self.config.seed, verbose=False)
            world_size = count_devices(self.config.trainer) * int(self.config.trainer.get("num_nodes", 1))
            self.start = find_start(self.plain, self.output_dir, world_size)
            datamodule: TifDataModule = instantiate(self.config.data)
            if self.leading:
                require_sound_data(datamodule, world_size)
            module: LightningModule = instantiate(self.config.model)
            if self._autoencoder is not None:
                load_first_stage_weights(module, self._autoencoder)
            trainer = self._trainer(world_size)
            self.trainer, self.module, self.datamodule = trainer, module, datamodule
            if self.leading:
                (self.output_dir / "summary.json").unlink(missing_ok=True)
                OmegaConf.save(self.config, self.output_dir / "config.yaml")
                print_plan(trainer, module, datamodule, self.start)
            ckpt_path = None if self.start is None else str(self.start.checkpoint)
            trainer.fit(module, datamodule, ckpt_path=ckpt_path, weights_only=True)

    def conclude(self, status: str) -> None:
        """Write ``summary.json`` and print the table, on rank 0; nothing when it didn't come to training."""
        if self.leading and self.trainer is not None:
            conclude(self, status, time.monotonic() - self._began)

    def _trainer(self, world_size: int) -> Trainer:
        self.checkpointer = self._checkpointer()
        chosen = [instantiate(node) for name, node in self._nodes("callbacks") if name != "checkpointer"]
        callbacks: list[Callback] = [Randomness(self.config.seed), *chosen, self.checkpointer]
        plugins: list[Any] = [AtomicCheckpointIO()]
        if started_by_launcher():
            plugins.append(LightningEnvironment())
        settings = dict(self.config.trainer)
        if settings.get("strategy", "auto") == "auto" and (world_size > 1 or started_from_outside()):
            # The discriminator has no gradients before its start; ranks may validate unequally often.
            settings["strategy"] = DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)
        trainer = instantiate(self.config.trainer, _partial_=True)
        return trainer(
            strategy=settings.get("strategy", "auto"),
            callbacks=callbacks,
            logger=self._loggers(),
            plugins=plugins,
            default_root_dir=str(self.output_dir),
            use_distributed_sampler=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    def _checkpointer(self) -> Checkpointer:
        checkpointer = instantiate(self.config.callbacks.checkpointer)
        checkpointer.signals = self.signals
        checkpointer.provenance = {
            "format": FORMAT,
            "config": self.plain,
            "versions": package_versions(),
        }
        return checkpointer

    def _loggers(self) -> list[Logger]:
        loggers = []
        for _, node in self._nodes("logger"):
            again = {}
            if self.start is not None and self.start.in_place and node._target_.endswith(".TensorBoard"):
                # It hides what the interrupted run has logged beyond its last checkpoint.
                again = {"purge_step": self.start.first_step}
            loggers.append(instantiate(node, **again))
        return loggers

    def _nodes(self, group: str) -> list[tuple[str, DictConfig]]:
        return [
            (str(name), node) for name, node in (self.config.get(group) or {}).items() if node is not None
        ]


def _quieten() -> None:
    """Lightning's remarks on what was done on purpose."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*smaller than the logging interval.*",
        ".*in eval mode at the start of training.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*isinstance\\(treespec, LeafSpec\\).*",
        ".*find_unused_parameters=True was specified.*",
        ".*It is recommended to use `self.log.*sync_dist.*",  # modules join the ranks' figures themselves
    ):
        warnings.filterwarnings("ignore", message=message)


def train(config: DictConfig, output_dir: Path) -> int:
    """Train in this process, as one rank when there are several.

    Args:
        config: ``conf/train.yaml``, composed.
        output_dir: the run's folder.

    Returns:
        0; 130 or 143 when Ctrl-C or SIGTERM stopped training after a checkpoint.

    Raises:
        UsageError, DataError: with what is to be mended.
    """
    with StopSignals() as signals:
        training = Training(config, output_dir, signals)
        try:
            training.run()
        except Interrupted as stop:
            training.conclude("interrupted")
            return stop.exit_code
        except Exception as error:
            training.conclude("failed")
            told = to_user_error(error)
            if told is error:  # "raise error from error" would make it its own cause
                raise
            raise told from error
        training.conclude("finished")
    return 0


def to_user_error(error: Exception) -> Exception:
    """A library's error in words that say what to turn; other errors as they are.

    What it was raised from counts too: torch raises the death of a loading process in the main thread,
    wherever that happens to be, so that other code may catch it and raise an error of its own.
    """
    if isinstance(error, (UsageError, DataError)):
        return error
    for cause in _with_causes(error):
        first = next(iter(str(cause).splitlines()), "")
        if type(cause).__name__ == "OutOfMemoryError":
            return DataError(
                f"The device's memory is full ({first}). Lower data.batch_size (and raise "
                "model.accumulate_grad_batches), or set trainer.precision=bf16-mixed."
            )
        if isinstance(cause, RuntimeError) and "DataLoader worker" in str(cause):
            return DataError(
                f"A process that loads images was killed ({first}); the machine's memory may be "
                "full. Lower data.num_workers, then continue with ckpt_path=last."
            )
    return error


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        hidden = following.__suppress_context__
        following = following.__cause__ or (None if hidden else following.__context__)
