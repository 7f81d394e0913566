"""Pictures of fixed validation images and the module's outputs for them, as PNG files and in the loggers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL.Image import Image

from pti.data.dataset import TifDataset
from pti.drawing.figures import Comparison, draw_comparison, draw_curves
from pti.modules.manual_optimization import ManualOptimization
from pti.train.callbacks.loop_state import batches_done
from pti.train.callbacks.metrics_csv import read_metrics


@runtime_checkable
class PictureLogger(Protocol):
    """A logger that takes pictures."""

    def add_picture(self, name: str, picture: Image, step: int) -> None:
        """Log a picture of a step, as the same pixels."""
        ...


class Pictures(Callback):
    """Draw the same validation images, of different patients, every few epochs and at the end.

    Writes ``images/epoch=….png``, further comparisons as ``images/NAME_epoch=….png``, and
    ``images/curves.png``. The module's ``example_pictures`` chooses the content. Loggers get the comparisons
    as ``val/examples`` and ``val/NAME``.

    Args:
        every_n_epochs: interval in epochs; the last epoch is always drawn.
        images: number of images.
    """

    def __init__(self, every_n_epochs: int = 10, images: int = 4) -> None:
        self.every_n_epochs = every_n_epochs
        self.images = images
        self._batch: dict[str, Any] | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the pictures if this epoch is due; the first epoch is."""
        due = trainer.current_epoch == 0 or self._is_due(trainer)
        if due and trainer.is_global_zero and not trainer.sanity_checking:
            assert isinstance(pl_module, ManualOptimization)
            self._draw(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Update the curves if this epoch is due."""
        folder = Path(trainer.default_root_dir)
        if self._is_due(trainer) and trainer.is_global_zero and (folder / "metrics.csv").is_file():
            draw_curves(read_metrics(folder / "metrics.csv"), folder / "images" / "curves.png")

    def _is_due(self, trainer: Trainer) -> bool:
        epoch = trainer.current_epoch + 1
        return epoch % self.every_n_epochs == 0 or epoch == trainer.max_epochs

    def _draw(self, trainer: Trainer, module: ManualOptimization) -> None:
        if self._batch is None:
            self._batch = example_batch(trainer, self.images)
        if not self._batch:
            return
        comparisons = compare(trainer, module, self._batch)
        folder, epoch = Path(trainer.default_root_dir) / "images", trainer.current_epoch + 1
        folder.mkdir(parents=True, exist_ok=True)
        for name, comparison in comparisons.items():
            picture = draw_comparison(comparison)
            picture.save(folder / f"{'' if name == 'examples' else name + '_'}epoch={epoch:04d}.png")
            for logger in trainer.loggers:
                if isinstance(logger, PictureLogger):
                    logger.add_picture(f"val/{name}", picture, batches_done(trainer) - 1)


@torch.no_grad()
def compare(trainer: Trainer, module: ManualOptimization, batch: dict[str, Any]) -> dict[str, Comparison]:
    """Return the module's ``example_pictures`` of a batch on the CPU, in the trainer's precision."""
    batch = trainer.precision_plugin.convert_input(batch)
    batch = module.transfer_batch_to_device(batch, module.device, 0)
    with trainer.precision_plugin.forward_context():
        return module.example_pictures(batch)


def example_batch(trainer: Trainer, count: int) -> dict[str, Any]:
    """Return ``count`` images spread evenly over the validation set, of different patients where possible."""
    loaders = trainer.val_dataloaders
    loader = loaders[0] if isinstance(loaders, (list, tuple)) and loaders else loaders
    dataset = getattr(loader, "dataset", None)
    if not isinstance(dataset, TifDataset):
        return {}
    first_of_patient: dict[str, int] = {}
    for index, sample in enumerate(dataset.samples):
        first_of_patient.setdefault(sample.patient, index)
    enough = len(first_of_patient) >= count
    candidates = list(first_of_patient.values()) if enough else list(range(len(dataset.samples)))
    chosen = np.linspace(0, len(candidates) - 1, min(count, len(candidates))).round().astype(int)
    return dataset.__getitems__([(0, candidates[index]) for index in chosen])
