"""Start of a training run: from scratch, in place after an interruption, or as a branch of another run."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pti.common.errors import UsageError
from pti.common.path_settings import setting
from pti.runs.checkpoint import Checkpoint, CheckpointError, open_intact
from pti.runs.locate import LAST, resolve, run_dir_of

MAY_DIFFER = (
    "output_dir",
    "ckpt_path",
    "resume",
    "autoencoder_ckpt",  # its weights are in the checkpoint
    "init_from",  # as are those that have become of these
    "init_strict",
    "allow_config_changes",
    "data.allow_config_changes",
    "new_sweep",
    "stop_on_collapse",
    "forecast",
    "trust_images",
    "callbacks",
    "logger",
    "tags",
    "group",
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.max_time",
    "trainer.accelerator",
    "trainer.strategy",
    "trainer.devices",  # their number is compared instead
    "trainer.log_every_n_steps",
    "trainer.limit_val_batches",
    "trainer.val_check_interval",
    "trainer.check_val_every_n_epoch",
    "trainer.num_sanity_val_steps",
    "trainer.profiler",
    "data.root",
    "data.allow_links",
    "data.cache_dir",
    "data.num_workers",
    "data.pin_memory",
    "model.compile",
)
"""Keys whose change does not affect any training step; a resumed run may change them freely."""

FIXED = (
    "freeze",
    "model._target_",
    "model.autoencoder",
    "model.discriminator",
    "model.network",
    "model.first_stage",
    "model.normalization",
    "model.size_condition",
    "model.texture",
    "model.attributes._target_",
    "model.attributes.measures",
    "model.optimizer._target_",
    "model.generator_optimizer._target_",
    "model.discriminator_optimizer._target_",
)
"""Keys that the checkpoint's weights, statistics and optimizer states depend on; a resumed run keeps them."""

KEPT = ("model.adversarial", "model.size_condition", "model.texture")
"""Parts that a resumed run can neither get nor lose: the discriminator comes with the adversarial loss, the
other modules are fitted before the first step."""

ADJUSTABLE = ("use_checkpoint", "use_flash_attention")
"""Last parts of keys below `FIXED` that change speed and memory only."""

_ABSENT = "absent"
_MAX_LISTED = 8  # changed keys


@dataclass(frozen=True)
class Start:
    """Place at which a run continues after a checkpoint.

    Attributes:
        checkpoint: path of the checkpoint.
        in_place: whether the run continues in the folder of the interrupted one.
        batches_done: number of training batches before the checkpoint.
        first_step: first step that will be logged.
    """

    checkpoint: Path
    in_place: bool
    batches_done: int
    first_step: int


def resume_overrides(ckpt_path: str | None, experiment: str | None) -> dict[str, str | Path]:
    """Resolve ``ckpt_path``; keep a run that continues a last.ckpt in its folder, overwriting nothing.

    Args:
        ckpt_path: the configured checkpoint, if any.
        experiment: the experiment that ``last`` and ``best`` refer to.

    Returns:
        Overrides by key.

    Raises:
        UsageError: the checkpoint does not exist.
    """
    if ckpt_path is None:
        return {}
    checkpoint = resolve(ckpt_path, experiment=experiment)
    overrides: dict[str, str | Path] = {"ckpt_path": checkpoint}
    run_dir = run_dir_of(checkpoint)
    if run_dir is not None:
        now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        overrides |= {"output_dir": run_dir, "hydra.output_subdir": f".hydra/resumed_{now}"}
    return overrides


def open_resumed(config: dict[str, Any], output_dir: Path) -> Checkpoint | None:
    """Open the checkpoint ``ckpt_path``; a damaged last.ckpt is replaced by an older one, with a warning.

    Args:
        config: the resolved configuration, plain.
        output_dir: the run's folder.

    Returns:
        None for a run from scratch.

    Raises:
        UsageError: the checkpoint does not exist, or the folder holds another run.
        CheckpointError: the checkpoint and its substitutes are damaged, or hold no state of a training run.
    """
    name, last = config.get("ckpt_path"), output_dir / "checkpoints" / LAST
    path = None if name is None else resolve(str(name))
    if last.exists() and (path is None or not _is_in_place(path, output_dir)):
        raise UsageError(
            f"{setting('output_dir', output_dir)}: found another run in this folder. Resume it with "
            f"resume=auto or {setting('ckpt_path', last)}, or choose another output_dir."
        )
    if path is None:
        return None
    checkpoint, damage = open_intact(path)
    if damage is not None and int(os.environ.get("LOCAL_RANK", 0)) == 0:
        print(f"Warning: {damage}\nWarning: resuming from {checkpoint.path} instead.", file=sys.stderr)
    if "loops" not in checkpoint.content:
        raise CheckpointError(
            f"{checkpoint.path}: found no state of a training run; expected a checkpoint of pti.train."
        )
    return checkpoint


def find_start(checkpoint: Checkpoint, config: dict[str, Any], output_dir: Path, world_size: int) -> Start:
    """Determine where the run continues, and refuse changed settings.

    Args:
        checkpoint: the checkpoint to continue.
        config: the resolved configuration, plain.
        output_dir: the run's folder.
        world_size: number of processes.

    Raises:
        UsageError: settings that affect training differ from those of the checkpoint.
    """
    path, content = checkpoint.path, checkpoint.content
    changes = find_changes(content, config, world_size)
    fixed = {
        key: change
        for key, change in changes.items()
        # Any other key that one side lacks is a new option.
        if (key.removesuffix("._target_") in KEPT if _ABSENT in change else _is_fixed(key))
    }
    allowed = config.get("allow_config_changes", False)
    if fixed or (changes and not allowed):
        differing = fixed if allowed else changes
        lines = [f"{key}: {old} in the checkpoint, now {new}" for key, (old, new) in differing.items()]
        listed = "".join(f"\n  {line}" for line in lines[:_MAX_LISTED])
        more = f"\n  and {len(lines) - _MAX_LISTED} more" if len(lines) > _MAX_LISTED else ""
        fix = (
            "The checkpoint's weights depend on these settings: restore them, or start a new run."
            if fixed
            else "Restore these settings, or set allow_config_changes=true to continue with the new ones."
        )
        raise UsageError(
            f"{setting('ckpt_path', path)}: this checkpoint was trained with other settings:{listed}{more}\n"
            f"{fix}"
        )
    done = int(content["batches_done"])
    # A validation that is still due is logged at the step of the batch before it.
    first_step = done - (content["moment"] == "before validation")
    in_place = _is_in_place(resolve(str(config["ckpt_path"])), output_dir)
    return Start(path, in_place, done, first_step)


def find_changes(
    content: dict[str, Any], config: dict[str, Any], world_size: int
) -> dict[str, tuple[str, str]]:
    """Return key -> (value in a checkpoint, value now) of settings that affect training and differ."""
    old, new = ({"freeze": None} | _flatten(settings) for settings in (content["config"], config))
    changes = {}
    old_size = content.get("world_size", 1)
    if old_size != world_size:
        changes["number of devices"] = (str(old_size), str(world_size))
    for key in dict.fromkeys([*old, *new]):
        if old.get(key) != new.get(key) and not _may_differ(key):
            before, now = (repr(flat[key]) if key in flat else _ABSENT for flat in (old, new))
            changes[key] = (before, now)
    return changes


def _is_in_place(checkpoint: Path, output_dir: Path) -> bool:
    run_dir = run_dir_of(checkpoint)
    return run_dir is not None and run_dir.resolve() == output_dir.resolve()


def _may_differ(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in MAY_DIFFER)


def _is_fixed(key: str) -> bool:
    inside = any(key == name or key.startswith(f"{name}.") for name in FIXED)
    return inside and not key.endswith(ADJUSTABLE)


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        return {
            inner: leaf
            for key, item in value.items()
            for inner, leaf in _flatten(item, f"{prefix}.{key}" if prefix else str(key)).items()
        }
    return {prefix: list(value) if isinstance(value, (list, tuple)) else value}
