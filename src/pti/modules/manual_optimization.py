"""The base of all trained modules: manual optimization, and what Lightning then leaves to the module."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from lightning import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import Self, override

from pti.common.errors import UsageError
from pti.common.randomness import keyed_generator
from pti.drawing.figures import Comparison
from pti.modules import optimization
from pti.modules.optimization import LrSchedule, OptimizerFactory
from pti.modules.tif_data import TifDataModule
from pti.modules.validation_metrics import ValidationMetrics
from pti.networks.ema import Ema

Network = TypeVar("Network", bound=nn.Module)


class ManualOptimization(LightningModule):
    """Rate schedule, gradient clipping, accumulation, averaging and compilation, exact across a resume.

    ``global_step`` counts the steps of the first network only. ``batches_seen`` counts batches and is stored
    in the checkpoint. ``batch_values`` holds the last batch's values and learning rate on the device; reading
    one waits for the device, and logging it with ``prog_bar`` makes Lightning read it in every batch.

    A training step names the network that it optimizes, builds its loss and minimizes it::

        with self.optimizing(self.network, batch_idx) as minimize:
            loss = ...
            minimize(loss)
        return self.end_of_batch({"loss": loss}, batch_size)

    Args:
        lr_schedule: factor of the learning rate; None = constant.
        gradient_clip_val: largest gradient norm of each network; None = no clipping.
        accumulate_grad_batches: batches for each optimizer step.
        scale_lr_by_devices: multiply learning rates by the number of devices.
        ema_decay: of the first network's average, per step; None = no average.
        ema_update_every: steps between updates of the average.
        channels_last: memory layout of the networks.
        compile: compile the networks in place.
        seed: of the noise in training and validation.
    """

    ema: Ema | None
    trained_networks: Sequence[nn.Module]
    """The networks that are trained; the first one is averaged."""
    optimizer_factories: Sequence[OptimizerFactory]
    """The factories of the networks' optimizers, in the same order."""
    metrics: ValidationMetrics
    value_shown = "loss"
    """Name of the training value in the progress bar."""
    metric_shown: str
    """Name of the validation metric in the progress bar."""

    def __init__(
        self,
        lr_schedule: LrSchedule | None = None,
        *,
        gradient_clip_val: float | None = None,
        accumulate_grad_batches: int = 1,
        scale_lr_by_devices: bool = False,
        ema_decay: float | None = None,
        ema_update_every: int = 1,
        channels_last: bool = False,
        compile: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        if accumulate_grad_batches < 1:
            raise UsageError(
                f"model.accumulate_grad_batches={accumulate_grad_batches}: expected a number of 1 or more."
            )
        self.lr_schedule = lr_schedule or LrSchedule()
        self.gradient_clip_val = gradient_clip_val
        self.accumulate_grad_batches = accumulate_grad_batches
        self.scale_lr_by_devices = scale_lr_by_devices
        self.ema_decay = ema_decay
        self.ema_update_every = ema_update_every
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.compile_networks = compile
        self.seed = seed
        self.batches_seen = 0
        self.batch_values: dict[str, Tensor] = {}
        self._resumed_gradients: dict[str, Tensor] = {}
        self._optimizer_settings: list[list[dict[str, Any]]] = []
        self._frozen: tuple[nn.Module, ...] = ()  # a tuple, so that names in the state_dict don't change

    @abstractmethod
    @override
    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Take the step of every trained network on one batch; return `end_of_batch`."""

    @abstractmethod
    def example_pictures(self, batch: dict[str, Any]) -> dict[str, Comparison]:
        """Return comparisons by name, ``examples`` among them, of a collated batch on the module's device."""

    @property
    def datamodule(self) -> TifDataModule:
        """The data of the running training."""
        return cast(TifDataModule, self.trainer.datamodule)  # pyright: ignore[reportAttributeAccessIssue]

    def in_memory_format(self, network: Network) -> Network:
        """Bring a network's weights into the configured memory layout."""
        return network.to(memory_format=self.memory_format)  # pyright: ignore[reportCallIssue]

    def average_of(self, network: nn.Module) -> Ema | None:
        """Start the configured average of a network; None when there is none."""
        return Ema(network, self.ema_decay, self.ema_update_every) if self.ema_decay else None

    def keep_frozen(self, parts: Sequence[nn.Module]) -> None:
        """Keep parts in evaluation mode from now on, whose weights require no gradients (`freezing`)."""
        self._frozen = tuple(parts)
        self.train(self.training)

    @override
    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

    def batch_generator(self) -> torch.Generator:
        """Return the generator of this batch's noise, on the device; a resumed run draws the same noise."""
        return keyed_generator(self.device, self.seed, self.batches_seen, self.global_rank)

    def host_generator(self, generator: torch.Generator) -> torch.Generator:
        """Return the generator of this batch's numbers on the CPU: on a CPU, the generator of its noise."""
        if generator.device.type == "cpu":
            return generator
        return keyed_generator("cpu", self.seed, self.batches_seen, self.global_rank)

    @contextmanager
    def optimizing(self, network: nn.Module, batch_idx: int) -> Iterator[Callable[[Tensor], None]]:
        """Give gradients to one network inside, and take its optimizer's step at the end.

        The step follows when the accumulation window ends with this batch; then the average is updated, too.

        Args:
            network: one of ``trained_networks``.
            batch_idx: of the batch in its epoch.

        Yields:
            ``minimize(loss)``: backpropagates a batch's loss ().
        """
        index = next(i for i, trained in enumerate(self.trained_networks) if trained is network)
        optimizer = self._optimizers()[index]
        batches = self.trainer.num_training_batches
        window = optimization.accumulation_window(batch_idx, self.accumulate_grad_batches, batches)

        def minimize(loss: Tensor) -> None:
            self.manual_backward(loss / window.size)

        with optimizer.toggle_model():
            yield minimize
        if not window.ends:
            return
        optimization.average_gradients(network, self.trainer)
        others = [other for other in self.trained_networks if other is not network]
        with optimization.rescaled_gradients(self, others):
            optimization.step_and_clear(optimizer, counted=index == 0)
        if index == 0 and self.ema is not None:
            self.ema.update(network)

    def set_learning_rates(self) -> None:
        """Set every optimizer to the schedule's rate for this step, and log the first one's."""
        optimizers = self._optimizers()
        total = optimization.total_steps(self.trainer, self.accumulate_grad_batches)
        factor = self.lr_schedule.factor(self.global_step, total)
        for optimizer in optimizers:
            optimization.set_rate(optimizer, factor)
        # Filled on the device: Lightning would copy the number and wait.
        rate = torch.full((), optimizers[0].param_groups[0]["lr"], dtype=torch.float32, device=self.device)
        self.batch_values = {"lr": rate}
        self.log("train/lr", rate)

    def end_of_batch(self, values: dict[str, Tensor], batch_size: int) -> dict[str, Tensor]:
        """Count the batch, log ``train/NAME`` for each value, and return what a training step returns.

        Args:
            values: scalars; ``loss`` among them.
            batch_size: samples in the batch.
        """
        self.batches_seen += 1
        detached = {name: value.detach() for name, value in values.items()}
        self.batch_values |= detached
        for name, value in detached.items():
            self.log(f"train/{name}", value, batch_size=batch_size)
        return {"loss": detached["loss"]}

    def compile_in_place(self, networks: Sequence[nn.Module], retains_graph: bool = False) -> None:
        """Compile networks where that is configured, once; names in the checkpoint stay as they are."""
        if self.compile_networks:
            optimization.compile_in_place(networks, retains_graph)
            self.compile_networks = False

    @override
    def configure_optimizers(self) -> list[Optimizer]:
        factor = self.trainer.world_size if self.scale_lr_by_devices else 1
        scaled = optimization.grad_scaler(self) is not None
        pairs = zip(self.optimizer_factories, self.trained_networks, strict=True)
        optimizers = [optimization.build_optimizer(*pair, factor, scaled) for pair in pairs]
        self._optimizer_settings = [optimization.settings_of(optimizer) for optimizer in optimizers]
        return optimizers

    @override
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.set_learning_rates()

    @override
    def on_validation_epoch_start(self) -> None:
        self.metrics.reset(self.device)

    @override
    def on_validation_epoch_end(self) -> None:
        for name, value in self.metrics.compute().items():
            self.log(f"val/{name}", value, prog_bar=name == self.metric_shown)

    @override
    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip gradients; fp16 gradients are already unscaled here."""
        if self.gradient_clip_val is not None:
            optimization.clip_gradients(optimizer, self.gradient_clip_val, optimization.grad_scaler(self))

    @override
    def on_validation_model_zero_grad(self) -> None:
        """Keep the gradients of an accumulation window that a validation interrupts."""

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["batches_seen"] = self.batches_seen
        # Gradients exist only inside an accumulation window. Under DDP each rank holds its own share until
        # the window ends; giving their mean to all ranks leads to the same step.
        gradients = {name: p.grad for name, p in self.named_parameters() if p.grad is not None}
        if self.trainer.world_size > 1:
            reduce = self.trainer.strategy.reduce  # in place
            gradients = {name: reduce(grad.clone(), reduce_op="mean") for name, grad in gradients.items()}
        checkpoint["accumulated_gradients"] = gradients

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the counters; start an average that is missing, drop one that is not configured."""
        state = checkpoint["state_dict"]
        averaged = [name for name in state if name.startswith("ema.")]
        if self.ema is None:
            for name in averaged:
                del state[name]
        elif not averaged:
            first = next(name for name, child in self.named_children() if child is self.trained_networks[0])
            weights = {name: value for name, value in state.items() if name.startswith(f"{first}.")}
            state |= {f"ema.model.{name.removeprefix(f'{first}.')}": value for name, value in weights.items()}
            state["ema._extra_state"] = self.ema.get_extra_state()
        self.batches_seen = checkpoint["batches_seen"]
        self._resumed_gradients = checkpoint["accumulated_gradients"]

    @override
    def on_train_start(self) -> None:
        """Continue a window with its gradients, and apply the configured settings of the optimizers.

        Lightning clears gradients that are set earlier; torch restores the settings of a resumed optimizer.
        """
        for optimizer, settings in zip(self._optimizers(), self._optimizer_settings, strict=True):
            optimization.apply_settings(optimizer, settings)
        parameters = dict(self.named_parameters())
        for name, gradient in self._resumed_gradients.items():
            parameters[name].grad = gradient.to(parameters[name])
        self._resumed_gradients = {}

    def _optimizers(self) -> list[LightningOptimizer]:
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]
