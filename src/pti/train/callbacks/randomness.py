"""The random generators of all ranks: seeded, kept apart from validation, saved and restored."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from pti.train.callbacks.agreement import RankConsensus

_VALIDATION = 1_000_003  # any constant that sets validation's stream apart from training's


class Randomness(Callback):
    """Makes training's random draws a function of seed, rank and step alone, whatever happens in between.

    Validation and the start of an epoch draw from generators of their own: the draws of training go on where
    the last batch left them, and every validation sees the same draws. So validating more often, or resuming,
    changes no weight.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._agreement = RankConsensus()
        self._kept: dict[str, Any] | None = None
        self._to_restore: list[dict[str, Any]] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Opens the channel between the ranks."""
        self._agreement.open()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seeds each rank differently, or goes on where the checkpoint stood."""
        rank = trainer.global_rank
        if self._to_restore is not None and rank < len(self._to_restore):
            self._kept = self._to_restore[rank]
        else:
            seed_generators(self.seed + rank)
            self._kept = capture_generators()
        self._to_restore = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Goes on with training's draws after something else came in between."""
        if self._kept is not None:
            restore_generators(self._kept)
            self._kept = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Every validation starts from the same state."""
        self._keep()
        seed_generators(self.seed + _VALIDATION + trainer.global_rank)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What follows (loaders, other callbacks) may draw too."""
        self._keep()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Saves the generators of all ranks."""
        checkpoint["rng"] = self._agreement.gather(self._kept or capture_generators())

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Notes what ``on_train_start`` restores."""
        self._to_restore = checkpoint.get("rng")

    def _keep(self) -> None:
        if self._kept is None:
            self._kept = capture_generators()


def seed_generators(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators, those of the accelerator included."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  (libraries draw from the global generator)
    torch.manual_seed(seed)


def capture_generators() -> dict[str, Any]:
    """The state of all global generators of this process, in plain containers and tensors."""
    kind, key, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": (str(kind), torch.from_numpy(np.array(key, np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
    }


def restore_generators(state: dict[str, Any]) -> None:
    """Set the global generators of this process to a captured state."""
    version, words, gauss_next = state["python"]
    random.setstate((version, tuple(words), gauss_next))
    kind, key, *rest = state["numpy"]
    np.random.set_state((kind, key.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
