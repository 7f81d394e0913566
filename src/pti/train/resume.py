"""Where a training run starts: afresh, where it was interrupted, or as a branch of another run."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pti.common.errors import DataError, UsageError
from pti.runs.checkpoint import CheckpointError, read
from pti.runs.locate import LAST, fallbacks, resolve, run_dir_of

MAY_DIFFER = (
    "output_dir",
    "ckpt_path",
    "autoencoder_ckpt",  # the checkpoint has it within
    "allow_config_changes",
    "data.allow_config_changes",
    "new_sweep",
    "callbacks",
    "logger",
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.max_time",
    "trainer.accelerator",
    "trainer.devices",  # their number is compared, not how they were asked for
    "trainer.log_every_n_steps",
    "trainer.limit_val_batches",
    "trainer.val_check_interval",
    "trainer.check_val_every_n_epoch",
    "trainer.num_sanity_val_steps",
    "trainer.profiler",
    "data.root",
    "data.cache_dir",
    "data.num_workers",
    "data.pin_memory",
    "model.compile",
)
"""The keys that a resumed run may have otherwise without being asked: they change no step of training."""

_SHOWN = 8


@dataclass(frozen=True)
class Start:
    """The checkpoint that training starts from.

    Attributes:
        checkpoint: its path.
        in_place: whether the run goes on in its own folder.
        batches_done: training batches that are behind it.
        first_step: the first step that will be logged.
    """

    checkpoint: Path
    in_place: bool
    batches_done: int
    first_step: int


def find_start(config: dict[str, Any], output_dir: Path, world_size: int) -> Start | None:
    """The checkpoint named by ``ckpt_path``, opened once to see that it is whole and fits.

    Args:
        config: the resolved configuration, plain.
        output_dir: the run's folder.
        world_size: number of processes.

    Returns:
        None for a run from scratch.

    Raises:
        UsageError: there is no such checkpoint, it was trained otherwise than now asked for, or the folder
            holds another run.
        CheckpointError: it and what could stand in for it are damaged.
    """
    name, last = config.get("ckpt_path"), output_dir / "checkpoints" / LAST
    asked_for = None if name is None else resolve(str(name))
    run_dir = None if asked_for is None else run_dir_of(asked_for)
    in_place = run_dir is not None and run_dir.resolve() == output_dir.resolve()
    if last.exists() and not in_place:
        raise UsageError(
            f"output_dir={output_dir}: another run stands there. Go on with it by ckpt_path={last}, or "
            "choose another output_dir."
        )
    if asked_for is None:
        return None
    path, content = _read_or_fall_back(asked_for)
    if "loops" not in content or "config" not in content:
        raise CheckpointError(
            f"{path}: holds no state of a training run; expected a checkpoint of pti.train."
        )
    changes = find_changes(content, config, world_size)
    if changes and not config.get("allow_config_changes", False):
        raise UsageError(_refusal(path, changes))
    done = int(content["batches_done"])
    # A validation that is still to come is logged at the step of the batch before it.
    return Start(path, in_place, done, done - (content["moment"] == "before validation"))


def find_changes(content: dict[str, Any], config: dict[str, Any], world_size: int) -> list[str]:
    """What differs between a checkpoint's run and this one and would change the outcome, one line each."""
    old, new = (_flatten(each) for each in (content["config"], config))
    changes = [
        f"{key}: {_shown(old, key)} in the checkpoint, now {_shown(new, key)}"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key) and not _may_differ(key)
    ]
    if content.get("world_size", 1) != world_size:
        changes.insert(
            0, f"number of devices: {content.get('world_size', 1)} in the checkpoint, now {world_size}"
        )
    return changes


@contextlib.contextmanager
def exclusive_run(output_dir: Path) -> Iterator[None]:
    """Hold the run's folder; a second process that trains in it is told so.

    Raises:
        DataError: another process is training in this folder.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    output_dir.mkdir(parents=True, exist_ok=True)
    with open(output_dir / ".lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(
                f"{output_dir}: another process is training in this folder. Wait for it or stop it; a new "
                "run started now gets a folder of its own."
            ) from None
        except OSError:  # a file system without locks
            pass
        yield


def _read_or_fall_back(path: Path) -> tuple[Path, dict[str, Any]]:
    """A damaged last.ckpt is replaced by what was saved before it, and that is said."""
    try:
        return path, read(path)
    except CheckpointError as damage:
        for other in fallbacks(path):
            with contextlib.suppress(CheckpointError):
                content = read(other)
                if int(os.environ.get("LOCAL_RANK", 0)) == 0:
                    print(f"Warning: {damage}\nWarning: going on from {other} instead.", file=sys.stderr)
                return other, content
        raise


def _refusal(path: Path, changes: list[str]) -> str:
    shown = "".join(f"\n  {change}" for change in changes[:_SHOWN])
    more = f"\n  and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
    return (
        f"ckpt_path={path}: this checkpoint was trained otherwise:{shown}{more}\n"
        "Give the same settings as then, or allow_config_changes=true to go on with the new ones."
    )


def _may_differ(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in MAY_DIFFER)


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        return {
            inner: leaf
            for key, item in value.items()
            for inner, leaf in _flatten(item, f"{prefix}.{key}" if prefix else str(key)).items()
        }
    return {prefix: list(value) if isinstance(value, (list, tuple)) else value}


def _shown(flat: dict[str, Any], key: str) -> str:
    return repr(flat[key]) if key in flat else "absent"
