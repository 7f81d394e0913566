"""Lightning's loop counters, adjusted so that a resumed run continues exactly after the checkpoint.

Lightning saves the counters of its loops as they are in the hook that saves, and infers from them what
remains to be done. The inference is wrong for a checkpoint between the last batch and its validation
(validation and the end of the epoch are skipped), for one at the end of an epoch under ``max_steps`` (the end
runs twice), and for one in an epoch that ``max_steps`` cut short (the rest of the epoch is skipped). The
functions here set the counters to values from which Lightning infers correctly. All uses of Lightning's
private loop state are in this file.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from lightning.pytorch import Trainer

_EPOCH, _BATCH = "epoch_progress", "epoch_loop.batch_progress"
_VALIDATION = "epoch_loop.val_loop.batch_progress"


class SavePoint(Enum):
    """Place in the training loop at which a checkpoint is written; the values are stored in checkpoints."""

    BATCH_END = "after a batch"
    VALIDATION_DUE = "before validation"
    VALIDATION_END = "after validation"
    EPOCH_END = "after an epoch"


def batches_done(trainer: Trainer) -> int:
    """Return the number of training batches since the start, including the current one."""
    return trainer.fit_loop.epoch_loop.batch_progress.total.ready


def batches_of_epoch_done(trainer: Trainer) -> int:
    """Return the number of training batches in this epoch, including the current one."""
    return trainer.fit_loop.epoch_loop.batch_progress.current.ready


def is_last_batch(trainer: Trainer) -> bool:
    """Return whether the current batch is the last one of the epoch."""
    return trainer.fit_loop.epoch_loop._num_ready_batches_reached()


def validation_follows(trainer: Trainer) -> bool:
    """Return whether validation follows the current batch."""
    fetcher = trainer.fit_loop._data_fetcher
    return fetcher is not None and trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)


def set_save_point(loops: dict[str, Any], save_point: SavePoint, trainer: Trainer) -> None:
    """Set the counters in ``checkpoint["loops"]`` so that a run continues right after ``save_point``."""
    state = loops["fit_loop"]
    if save_point is SavePoint.VALIDATION_DUE:
        # "In validation, no batch done": the training batch counts as completed and validation is repeated.
        _set_completed(state[_BATCH], "processed")
        done = state[_VALIDATION]["total"]["ready"]  # in earlier validations of this epoch
        if trainer.validating:
            done -= state[_VALIDATION]["current"]["ready"]
        state[_VALIDATION] = {
            "total": {"ready": done + 1, "started": done + 1, "processed": done, "completed": done},
            "current": {"ready": 0, "started": 0, "processed": 0, "completed": 0},
            "is_last_batch": False,
        }
    elif save_point is SavePoint.EPOCH_END and is_last_batch(trainer):
        _set_completed(state[_EPOCH], "processed")
    elif save_point is SavePoint.EPOCH_END:
        # The epoch was cut short by max_steps or max_time: it continues when the limit is raised.
        for counts in (state[_EPOCH]["total"], state[_EPOCH]["current"]):
            counts["processed"] -= 1
        if _would_validate_again(trainer):
            state["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1


def continue_after(save_point: SavePoint | None, trainer: Trainer) -> None:
    """At the start of training, undo what `set_save_point` has set only for Lightning to infer from.

    After a checkpoint from the end of an epoch, begin a new one.
    """
    if save_point is SavePoint.VALIDATION_DUE:
        validated: Any = trainer.fit_loop.epoch_loop.val_loop.batch_progress.total
        validated.ready = validated.started = validated.completed
    progress = trainer.fit_loop.epoch_progress.current
    if save_point is SavePoint.EPOCH_END and progress.ready == progress.completed:
        # Under max_steps, Lightning assumes that every checkpoint lies in the middle of an epoch.
        trainer.fit_loop._restarting = False
        trainer.fit_loop.epoch_loop.restarting = False


def _set_completed(progress: dict[str, Any], source: str) -> None:
    for counts in (progress["total"], progress["current"]):
        counts["completed"] = counts[source]


def _would_validate_again(trainer: Trainer) -> bool:
    should_stop, trainer.should_stop = trainer.should_stop, False
    try:
        return validation_follows(trainer)
    finally:
        trainer.should_stop = should_stop
