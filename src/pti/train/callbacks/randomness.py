"""Random generators of all ranks: seeding, separation from validation, saving and restoring."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from pti.train.callbacks.consensus import RankConsensus

_VALIDATION_OFFSET = 1_000_003  # an arbitrary constant that separates the seeds of validation and training


class Randomness(Callback):
    """Make the random draws of training depend on seed, rank and step alone.

    Validation and the start of an epoch use separate generator states: training continues with the state that
    its last batch left, and every validation starts from the same state. Validating more often, or resuming,
    therefore changes no weight.

    Args:
        seed: seed of the run; each rank adds its number.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._consensus = RankConsensus()
        self._training_state: dict[str, Any] | None = None  # set while something else than training draws
        self._to_restore: list[dict[str, Any]] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Connect the ranks."""
        self._consensus.open()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed each rank differently, or restore the state of the checkpoint."""
        rank = trainer.global_rank
        if self._to_restore is not None and rank < len(self._to_restore):
            self._training_state = self._to_restore[rank]
        else:
            seed_generators(self.seed + rank)
            self._training_state = capture_generators()
        self._to_restore = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Restore the state of training after other draws."""
        if self._training_state is not None:
            restore_generators(self._training_state)
            self._training_state = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start every validation from the same state."""
        self._capture()
        seed_generators(self.seed + _VALIDATION_OFFSET + trainer.global_rank)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Capture the state before loaders and other callbacks draw."""
        self._capture()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the states of all ranks."""
        checkpoint["rng"] = self._consensus.gather(self._training_state or capture_generators())

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the saved states for ``on_train_start``."""
        self._to_restore = checkpoint.get("rng")

    def _capture(self) -> None:
        if self._training_state is None:
            self._training_state = capture_generators()


def seed_generators(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch, including that of the accelerator."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  (libraries draw from the global generator)
    torch.manual_seed(seed)


def capture_generators() -> dict[str, Any]:
    """Return the state of this process's global generators as plain containers and tensors."""
    kind, key, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": (str(kind), torch.from_numpy(np.array(key, np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
    }


def restore_generators(state: dict[str, Any]) -> None:
    """Set this process's global generators to a captured state."""
    version, words, gauss_next = state["python"]
    random.setstate((version, tuple(words), gauss_next))
    kind, key, *rest = state["numpy"]
    np.random.set_state((kind, key.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
