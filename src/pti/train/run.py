"""One training run in one process: assembly, training, summary."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
from hydra.utils import instantiate
from lightning import Callback, Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from pti.common.conf_dir import CONF_DIR
from pti.modules.latent_diffusion import LatentDiffusion
from pti.modules.manual_optimization import ManualOptimization
from pti.modules.protocols import Translator, is_autoencoder
from pti.modules.tif_data import TifDataModule
from pti.runs.checkpoint import Checkpoint
from pti.runs.first_stage import embed_first_stage_config, load_first_stage_weights
from pti.runs.lock import exclusive
from pti.runs.renamed import FORMAT
from pti.runs.summary import package_versions, write_summary
from pti.runs.weights import Weights, open_weights
from pti.train.autoencoder_fit import report_fit
from pti.train.callbacks import (
    AtomicCheckpointIO,
    Checkpointer,
    CollapseCheck,
    Forecast,
    Forecasted,
    Interrupted,
    Randomness,
    StopSignals,
)
from pti.train.console import (
    last_metrics,
    list_artefacts,
    print_plan,
    print_result,
    require_sound_data,
)
from pti.train.devices import count_devices, started_by_launcher, started_from_outside
from pti.train.failures import to_user_error
from pti.train.initial import prepare_weights
from pti.train.loggers import LogConfiguration
from pti.train.quiet import hide_warnings
from pti.train.record import write_record
from pti.train.resume import Start, find_start, open_resumed
from pti.train.size_response import store_response
from pti.train.trust import store_trust

_DDP_STRATEGY = CONF_DIR / "trainer" / "strategy" / "ddp.yaml"
_LOGGERS = ("pti.train.loggers.", "pti.train.trackers.")  # these can continue a run


def train(config: DictConfig, output_dir: Path) -> int:
    """Train in this process, which is one rank if there are several.

    Args:
        config: ``conf/train.yaml``, composed.
        output_dir: the run's folder.

    Returns:
        0; 130, 138 or 143 if Ctrl-C, SIGUSR1 or SIGTERM stopped training after a checkpoint.

    Raises:
        UsageError, DataError: the message says what to change.
    """
    with StopSignals() as signals:
        training = Training(config, output_dir, signals)
        try:
            training.run()
        except Forecasted:
            training.conclude("forecast")
            return 0
        except Interrupted as stop:
            training.conclude("interrupted")
            return stop.exit_code
        except Exception as error:
            training.conclude("failed")
            user_error = to_user_error(error)
            if user_error is error:  # "raise error from error" would make it its own cause
                raise
            raise user_error from error
        training.conclude("finished")
    return 0


def train_from_file(config_file: Path, output_dir: Path) -> int:
    """Call `train` with a resolved configuration from a file."""
    config = OmegaConf.load(config_file)
    assert isinstance(config, DictConfig)
    return train(config, output_dir)


def build_parts(plain: dict[str, Any]) -> tuple[TifDataModule, ManualOptimization]:
    """Build the data and the module of a new run, with the weights that it starts from.

    Args:
        plain: ``conf/train.yaml``, composed, plain; the first stage's configuration is added to it.
    """
    initial = None if plain.get("init_from") is None else open_weights(plain["init_from"])
    first_stage = embed_first_stage_config(plain, None, initial and initial.checkpoint)
    config = OmegaConf.create(plain)
    module: ManualOptimization = instantiate(config.model, _convert_="all")
    if first_stage is not None:
        load_first_stage_weights(module, first_stage)
    prepare_weights(module, initial, plain, leading=False)
    return instantiate(config.data, _convert_="all"), module


class Training:
    """A training run that can be summarised after success, failure and interruption.

    Args:
        config: ``conf/train.yaml``, composed; ``output_dir`` in it is replaced.
        output_dir: the run's folder.
        signals: source of stop signals.
    """

    def __init__(self, config: DictConfig, output_dir: Path, signals: StopSignals) -> None:
        config = config.copy()
        OmegaConf.update(config, "output_dir", str(output_dir))
        plain = OmegaConf.to_container(config, resolve=True)
        assert isinstance(plain, dict)
        self.plain: dict[str, Any] = {str(key): value for key, value in plain.items()}
        self.config = config
        self.output_dir = output_dir
        self.signals = signals
        self.trainer: Trainer | None = None
        self.module: ManualOptimization | None = None
        self.datamodule: TifDataModule | None = None
        self.checkpointer: Checkpointer | None = None
        self.start: Start | None = None
        self.forecast: Forecast | None = None
        self.initial: Weights | None = None
        self.fit_before: dict[str, float] = {}
        self.leading = int(getattr(rank_zero_only, "rank", 0) or 0) == 0
        self._began = time.monotonic()

    def run(self) -> None:
        """Build everything from the configuration, and fit."""
        hide_warnings()
        message = (
            f"{self.output_dir}: another process is training in this folder. Wait for it or stop it; a new "
            "run that is started now gets another folder."
        )
        with exclusive(self.output_dir, message) if self.leading else contextlib.nullcontext():
            resumed = open_resumed(self.plain, self.output_dir)
            if self.plain.get("init_from") is not None and resumed is None:
                self.initial = open_weights(self.plain["init_from"])
            initial = None if self.initial is None else self.initial.checkpoint
            first_stage = embed_first_stage_config(self.plain, resumed, initial)
            self.config = OmegaConf.create(self.plain)
            lightning.seed_everything(self.config.seed, verbose=False)
            world_size = count_devices(self.config.trainer) * int(self.config.trainer.get("num_nodes", 1))
            if resumed is not None:
                self.start = find_start(resumed, self.plain, self.output_dir, world_size)
            datamodule: TifDataModule = instantiate(self.config.data, _convert_="all")
            if self.leading:
                require_sound_data(datamodule, world_size)
            module: ManualOptimization = instantiate(self.config.model, _convert_="all")
            if first_stage is not None:
                load_first_stage_weights(module, first_stage)
            origin = prepare_weights(module, self.initial, self.plain, self.leading)
            trainer = self._build_trainer(world_size, resumed)
            self.trainer, self.module, self.datamodule = trainer, module, datamodule
            if self.leading:
                (self.output_dir / "summary.json").unlink(missing_ok=True)
                OmegaConf.save(self.config, self.output_dir / "config.yaml")
                print_plan(trainer, module, datamodule, self.start, origin)
                write_record(self.output_dir, datamodule)
                if self.start is None and (first_stage is not None or self.initial is not None):
                    self.fit_before = report_fit(module, datamodule, trainer.strategy.root_device)
            self.initial = self.initial and replace(self.initial, tensors={}, checkpoint=None, content={})
            del resumed, first_stage, initial  # free their memory
            ckpt_path = None if self.start is None else str(self.start.checkpoint)
            trainer.fit(module, datamodule, ckpt_path=ckpt_path, weights_only=True)
            if self.leading and isinstance(module, Translator):
                device, folder = trainer.strategy.root_device, self.output_dir / "checkpoints"
                if isinstance(module, LatentDiffusion) and module.size_condition is not None:
                    store_response(folder, device, self.signals)
                if self.config.trust_images:
                    store_trust(folder, device, self.config.trust_images, self.signals)

    def conclude(self, status: str) -> None:
        """Write ``summary.json`` and print a table on rank 0, provided that training could be built."""
        if self.trainer is None or self.checkpointer is None:
            return
        if not self.leading or not self.output_dir.is_dir():
            return
        internal = ("monitor", "monitored", "at_baseline")
        best = {name: value for name, value in self.checkpointer.best.items() if name not in internal}
        collapse = self.checkpointer.collapse
        metrics = {
            "epochs": self.trainer.current_epoch,
            "steps": self.trainer.global_step,
            **{f"start/autoencoder_{name}": value for name, value in self.fit_before.items()},
            **{f"best/{name}": value for name, value in best.items()},
            **({} if self.forecast is None else self.forecast.metrics),
            **last_metrics(self.output_dir),
            "seconds": round(time.monotonic() - self._began, 1),
        }
        artefacts = list_artefacts(self.output_dir)
        write_summary(
            self.output_dir,
            command="train",
            status=status,
            metrics=metrics,
            artefacts=artefacts,
            config=self.plain,
            data_fingerprint=self.datamodule.fingerprint if self.datamodule else None,
            checkpoint=self._origin(),
            seed=self.plain.get("seed"),
            collapsed=collapse.finding if collapse is not None else "",
            labels={key: self.plain.get(key) for key in ("tags", "group")},
        )
        if status != "failed":
            print_result(status, metrics, artefacts, is_autoencoder(self.module))

    def _origin(self) -> Path | None:
        """Return the file that the first weights came from."""
        if self.start is None:
            return None if self.initial is None else self.initial.path
        return None if self.start.in_place else self.start.checkpoint

    def _build_trainer(self, world_size: int, resumed: Checkpoint | None) -> Trainer:
        checkpointer: Checkpointer = instantiate(self.config.callbacks.checkpointer)
        checkpointer.signals = self.signals
        checkpointer.provenance = {"format": FORMAT, "config": self.plain, "versions": package_versions()}
        self.checkpointer = checkpointer
        others = [instantiate(node) for name, node in self._nodes("callbacks") if name != "checkpointer"]
        for check in others:
            if isinstance(check, CollapseCheck):
                check.config, checkpointer.collapse = self.plain, check
            if isinstance(check, Forecast):
                self.forecast = check
        record = LogConfiguration(self.plain)
        callbacks: list[Callback] = [Randomness(self.config.seed), record, *others, checkpointer]
        plugins: list[Any] = [AtomicCheckpointIO(None if resumed is None else resumed.content)]
        if started_by_launcher() or not started_from_outside():
            plugins.append(LightningEnvironment())
        settings: dict[str, Any] = {"callbacks": callbacks, "plugins": plugins}
        if self.config.trainer.get("strategy", "auto") in ("auto", "ddp"):
            several = world_size > 1 or started_from_outside()
            settings["strategy"] = instantiate(OmegaConf.load(_DDP_STRATEGY)) if several else "auto"
        return instantiate(self.config.trainer, _partial_=True)(
            logger=self._loggers(),
            default_root_dir=str(self.output_dir),
            use_distributed_sampler=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **settings,
        )

    def _loggers(self) -> list[Logger]:
        if not self.leading:  # they would have nothing to log, and MLflow would create its database twice
            return []
        first_step = self.start.first_step if self.start is not None and self.start.in_place else None
        return [
            instantiate(node, **({"first_step": first_step} if node._target_.startswith(_LOGGERS) else {}))
            for _, node in self._nodes("logger")
        ]

    def _nodes(self, group: str) -> list[tuple[str, DictConfig]]:
        return [
            (str(name), node) for name, node in (self.config.get(group) or {}).items() if node is not None
        ]
