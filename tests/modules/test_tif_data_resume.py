"""Exact resumption within an epoch, for any hook that saves and any number of prefetching workers."""

import multiprocessing
from collections import Counter
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from helpers.image_sets import WriteSet
from pti.common.errors import UsageError
from pti.data.layouts import paired_folders
from pti.modules.tif_data import TifDataModule


def _data(root: Path, **options: Any) -> TifDataModule:
    settings = {"image_size": 32, "batch_size": 2, "num_workers": 0, "fractions": (0.6, 0.2, 0.2)}
    return TifDataModule(
        root, **{"layout": paired_folders, "cache_dir": root.parent / "cache", **settings, **options}
    )


class Recorder(lightning.LightningModule):
    """A module that records the names in its batches; like a GAN, it steps two optimizers."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, str]] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        optimizers: Any = self.optimizers()
        for optimizer in optimizers:
            optimizer.step()
        self.seen += [(self.current_epoch, name) for name in batch["name"]]

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD([self.weight], 0.0), torch.optim.SGD([self.weight], 0.0)]


class SaveAndStop(Callback):
    """Save in one hook and then raise, as if the process had been killed."""

    def __init__(self, path: Path, hook: str, batches: int) -> None:
        self.path, self.hook, self.batches, self.done = path, hook, batches, 0
        setattr(self, hook, self._cut)

    def on_train_batch_start(self, *args: Any, **kwargs: Any) -> None:
        self.done += 1

    def _cut(self, trainer: lightning.Trainer, *args: Any) -> None:
        if self.done >= self.batches and not trainer.sanity_checking:
            trainer.save_checkpoint(self.path)
            raise KeyError("killed")


def _fit(
    data: TifDataModule, ckpt_path: Path | None = None, callback: Callback | None = None, val_every: Any = 1.0
) -> Recorder:
    module = Recorder()
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=1,
        callbacks=[] if callback is None else [callback],
        val_check_interval=val_every,
    )
    try:
        trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
    except KeyError:
        assert callback is not None
    return module


CUTS = [
    ("on_train_batch_end", 2, 0),  # in the middle of the first epoch
    ("on_train_batch_end", 5, 0),  # at its last batch
    ("on_train_batch_end", 7, 0),
    ("on_validation_end", 3, 0),  # validation in mid-epoch
    ("on_validation_end", 5, 0),
    ("on_train_epoch_end", 5, 0),
    ("on_train_epoch_end", 10, 0),
    ("on_train_batch_end", 7, 2),
    ("on_validation_end", 5, 2),
]


@pytest.mark.parametrize(("hook", "batches", "workers"), CUTS)
def test_a_resumed_run_sees_the_same_batches_as_an_uninterrupted_one(
    write_set: WriteSet, hook: str, batches: int, workers: int
) -> None:
    root = write_set(patients=6, slices=3)
    val_every = 3 if (hook, batches) == ("on_validation_end", 3) else 1.0
    uninterrupted = _fit(_data(root), val_every=val_every)
    assert set(Counter(name for _, name in uninterrupted.seen).values()) == {3}
    assert len(set(uninterrupted.seen)) == len(uninterrupted.seen)

    path = root.parent / "cut.ckpt"
    cut = _fit(_data(root, num_workers=workers), None, SaveAndStop(path, hook, batches), val_every)
    assert 0 < len(cut.seen) < len(uninterrupted.seen)
    assert not multiprocessing.active_children()
    for _ in range(1 if workers else 2):  # resumed twice = resumed once
        resumed = _fit(_data(root, num_workers=workers), path, None, val_every)
        assert cut.seen + resumed.seen == uninterrupted.seen


@pytest.mark.parametrize("change", [{"seed": 1}, {"batch_size": 3}, {"subset": 9}])
def test_other_settings_are_rejected_unless_allowed(write_set: WriteSet, change: dict) -> None:
    root = write_set(patients=6, slices=3)
    path = root.parent / "cut.ckpt"
    _fit(_data(root), None, SaveAndStop(path, "on_train_batch_end", 2))
    with pytest.raises(UsageError, match=r"in the checkpoint.*allow_config_changes"):
        _fit(_data(root, **change), path)
    assert _fit(_data(root, allow_config_changes=True, **change), path).seen
