"""Fixed validation images and what the module makes of them, in TensorBoard and as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from pti.data.dataset import TifDataset
from pti.drawing.figures import Comparison, draw_comparison, draw_curves
from pti.train.callbacks.loop_state import batches_done
from pti.train.callbacks.metrics_csv import read_metrics


@runtime_checkable
class Depicts(Protocol):
    """A module that says itself what its pictures show."""

    def example_pictures(self, batch: dict[str, Any]) -> dict[str, Comparison]:
        """Comparisons by name, ``examples`` among them, for a collated batch on the module's device."""
        ...


class Pictures(Callback):
    """Shows the same validation images, of different patients, every few epochs and at the end.

    Writes ``images/epoch=….png``, further ones as ``images/WHAT_epoch=….png``, and ``images/curves.png``. A
    module either has ``example_pictures(batch)``, or ``reconstruct(raw)`` from and to raw images.

    Args:
        every_n_epochs: how often; the last epoch always.
        images: how many images.
    """

    def __init__(self, every_n_epochs: int = 10, images: int = 4) -> None:
        self.every_n_epochs = every_n_epochs
        self.images = images
        self._batch: dict[str, Any] | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws them when it is time."""
        epoch = trainer.current_epoch + 1
        wanted = epoch % self.every_n_epochs == 0 or epoch in (1, trainer.max_epochs)
        if wanted and trainer.is_global_zero and not trainer.sanity_checking:
            self._draw(trainer, pl_module, f"epoch={epoch:04d}")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the curves up to date."""
        epoch, path = trainer.current_epoch + 1, Path(trainer.default_root_dir) / "metrics.csv"
        wanted = epoch % self.every_n_epochs == 0 or epoch == trainer.max_epochs
        if wanted and trainer.is_global_zero and path.is_file():
            draw_curves(read_metrics(path), Path(trainer.default_root_dir) / "images" / "curves.png")

    @torch.no_grad()
    def _draw(self, trainer: Trainer, module: LightningModule, name: str) -> None:
        if self._batch is None:
            self._batch = example_batch(trainer, self.images)
        if not self._batch:
            return
        batch = trainer.precision_plugin.convert_input(self._batch)
        batch = module.transfer_batch_to_device(batch, module.device, 0)
        with trainer.precision_plugin.forward_context():
            comparisons = (
                module.example_pictures(batch)
                if isinstance(module, Depicts)
                else _reconstructions(module, batch)
            )
        for what, comparison in comparisons.items():
            self._write(trainer, name if what == "examples" else f"{what}_{name}", what, comparison)

    @staticmethod
    def _write(trainer: Trainer, name: str, what: str, comparison: Comparison) -> None:
        picture = draw_comparison(comparison)
        path = Path(trainer.default_root_dir) / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                step = batches_done(trainer) - 1
                logger.experiment.add_image(f"val/{what}", np.asarray(picture), step, dataformats="HWC")


def example_batch(trainer: Trainer, count: int) -> dict[str, Any]:
    """``count`` images evenly_spaced spread over the validation set, of different patients where it has them."""
    loaders = trainer.val_dataloaders
    dataset = getattr(
        loaders[0] if isinstance(loaders, (list, tuple)) and loaders else loaders, "dataset", None
    )
    if not isinstance(dataset, TifDataset):
        return {}
    first_of_patient: dict[str, int] = {}
    for index, sample in enumerate(dataset.samples):
        first_of_patient.setdefault(sample.patient, index)
    enough = len(first_of_patient) >= count
    candidates = list(first_of_patient.values()) if enough else list(range(len(dataset.samples)))
    chosen = np.linspace(0, len(candidates) - 1, min(count, len(candidates))).round().astype(int)
    return dataset.__getitems__([(0, candidates[index]) for index in chosen])


def _reconstructions(module: LightningModule, batch: dict[str, Any]) -> dict[str, Comparison]:
    reconstruct = getattr(module, "reconstruct", None)
    if reconstruct is None or "image" not in batch:
        return {}
    raw = batch["image"]
    columns = {
        title: images.float().squeeze(1).cpu().numpy()
        for title, images in (("original", raw), ("reconstruction", reconstruct(raw)))
    }
    captions = [str(name) for name in batch.get("name", range(len(raw)))]
    return {"examples": Comparison(columns, captions, difference=("original", "reconstruction"))}
