"""Keys, groups and options that were renamed, and the message for a command line that uses an old name."""

from collections.abc import Sequence

from hydra.core.override_parser.types import ChoiceSweep, Override

from pti.common.errors import UsageError

KEYS = {
    "allow_changes": "allow_config_changes",
    "data.allow_changed_resume": "data.allow_config_changes",
    "data/normalization": "model/normalization",
    "fresh_sweep": "new_sweep",
    "model.changed_weight": "model.change_loss_weight",
    "model.path.target": "model.path.prediction_type",
    "model.schedule": "model.lr_schedule",
    "model.schedule.final": "model.lr_schedule.final_factor",
    "model.terms": "model.extra_losses",
    "model/terms": "model/extra_losses",
}
"""Old key or group -> new one; keys below an old one move with it."""

OPTIONS = {
    ("data/augmentation", "default"): "mild",
    ("model/perceptual", "lpips_alex"): "lpips model.perceptual.net=alex",
    ("model/perceptual", "lpips_squeeze"): "lpips model.perceptual.net=squeeze",
    ("model/perceptual", "lpips_vgg"): "lpips model.perceptual.net=vgg",
}
"""Group and its old option -> new option, with further overrides."""


def refuse_renamed(overrides: Sequence[Override]) -> None:
    """Refuse the first override that uses an old name.

    Raises:
        UsageError: The message names the new key or option.
    """
    for override in overrides:
        key = override.key_or_group
        for old in sorted(KEYS, key=len, reverse=True):
            if key == old or key.startswith(f"{old}."):
                raise UsageError(f"{key} was renamed: use {KEYS[old]}{key.removeprefix(old)}.")
        value = override.value()
        for option in value.list if isinstance(value, ChoiceSweep) else [value]:
            new = OPTIONS.get((key, str(option)))
            if new is not None:
                raise UsageError(f"{key}={option} was renamed: use {key}={new}.")
