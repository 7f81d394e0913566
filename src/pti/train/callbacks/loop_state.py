"""Where in training a checkpoint stands, said in Lightning's counters so that resuming goes on exactly there.

Lightning saves its loops' counters as they happen to stand in the hook that saves, and infers from them what
is still to be done. It infers wrongly for a checkpoint written between the last batch and its validation
(validation and the end of the epoch are skipped), for the end of an epoch under ``max_steps`` (the end is run
twice), and for an epoch that ``max_steps`` cut short (its rest is skipped). Here the counters are set to what
it infers rightly from. Everything that depends on Lightning's private loop state is in this file.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from lightning.pytorch import Trainer

_EPOCH, _BATCH = "epoch_progress", "epoch_loop.batch_progress"
_VALIDATION = "epoch_loop.val_loop.batch_progress"


class SavePoint(Enum):
    """When a checkpoint is written."""

    BATCH_END = "after a batch"
    VALIDATION_DUE = "before validation"
    VALIDATION_END = "after validation"
    EPOCH_END = "after an epoch"


def batches_done(trainer: Trainer) -> int:
    """Number of training batches seen since the start, this one included."""
    return trainer.fit_loop.epoch_loop.batch_progress.total.ready


def batches_of_epoch_done(trainer: Trainer) -> int:
    """Number of training batches seen in this epoch, this one included."""
    return trainer.fit_loop.epoch_loop.batch_progress.current.ready


def is_last_batch(trainer: Trainer) -> bool:
    """Whether the present batch ends the epoch."""
    return trainer.fit_loop.epoch_loop._num_ready_batches_reached()


def validation_follows(trainer: Trainer) -> bool:
    """Whether validation comes after the present batch."""
    fetcher = trainer.fit_loop._data_fetcher
    return fetcher is not None and trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)


def set_save_point(loops: dict[str, Any], moment: SavePoint, trainer: Trainer) -> None:
    """Set the counters in ``checkpoint["loops"]`` so that resuming goes on right after ``moment``."""
    state = loops["fit_loop"]
    if moment is SavePoint.VALIDATION_DUE:
        # "In the middle of validation, nothing done": the batch counts as done and validation is run anew.
        _set(state[_BATCH], completed_as="processed")
        state[_VALIDATION] = {
            "total": {"ready": 1, "started": 1, "processed": 0, "completed": 0},
            "current": {"ready": 0, "started": 0, "processed": 0, "completed": 0},
            "is_last_batch": False,
        }
    elif moment is SavePoint.EPOCH_END and is_last_batch(trainer):
        _set(state[_EPOCH], completed_as="processed")
    elif moment is SavePoint.EPOCH_END:
        # Cut short by max_steps or max_time: the epoch goes on when the limit is raised.
        for counts in (state[_EPOCH]["total"], state[_EPOCH]["current"]):
            counts["processed"] -= 1
        if _would_validate_again(trainer):
            state["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1


def epoch_is_complete(trainer: Trainer) -> bool:
    """Whether no epoch has been begun and not ended."""
    progress = trainer.fit_loop.epoch_progress.current
    return progress.ready == progress.completed


def start_new_epoch(trainer: Trainer) -> None:
    """Call at the start of training when the checkpoint was written after an epoch."""
    # Under max_steps Lightning believes that every checkpoint stands in the middle of an epoch.
    trainer.fit_loop._restarting = False
    trainer.fit_loop.epoch_loop.restarting = False


def _set(progress: dict[str, Any], completed_as: str) -> None:
    for counts in (progress["total"], progress["current"]):
        counts["completed"] = counts[completed_as]


def _would_validate_again(trainer: Trainer) -> bool:
    stopping, trainer.should_stop = trainer.should_stop, False
    try:
        return validation_follows(trainer)
    finally:
        trainer.should_stop = stopping
