"""Names that have changed since older checkpoints were written, and their translation into the present ones.

Add a line here when you rename something that a checkpoint's configuration names, and when you add an
argument whose default in ``conf`` is not what the program did before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FORMAT = 2
"""Format number that new checkpoints carry (key ``format``); checkpoints without one have format 1."""

TARGETS = {
    "pti.modules.optimization.Schedule": "pti.modules.optimization.LrSchedule",
    "pti.modules.loggers.TensorBoard": "pti.train.loggers.TensorBoard",
    **{
        f"pti.modules.callbacks.{name}": f"pti.train.callbacks.{name}"
        for name in ("Checkpointer", "MetricsCsv", "Pictures", "TrainingProgress")
    },
}
"""Old ``_target_`` -> present one."""

_SCHEDULE = {"schedule": "lr_schedule"}

ARGUMENTS: dict[str, dict[str, str]] = {
    "pti.modules.adversarial_vae.AdversarialVAE": {"terms": "extra_losses", **_SCHEDULE},
    "pti.modules.latent_diffusion.LatentDiffusion": {"changed_weight": "change_loss_weight", **_SCHEDULE},
    "pti.modules.regression.LatentRegression": _SCHEDULE,
    "pti.modules.regression.Regression": _SCHEDULE,
    "pti.modules.optimization.LrSchedule": {"final": "final_factor"},
    **{
        f"pti.diffusion.paths.{name}": {"target": "prediction_type"}
        for name in ("BrownianBridge", "Cosine", "RectifiedFlow", "ScaledLinear")
    },
    "pti.modules.tif_data.TifDataModule": {"allow_changed_resume": "allow_config_changes"},
}
"""Present ``_target_`` -> old name of an argument -> present name."""

_FIRST_STYLE = {
    "_target_": "pti.data.phantom.style.Style",
    "scale": 1.0,
    "offset_hu": 2000.0,
    "saturation_hu": 30000.0,
    "noise_hu": 14.0,
    "blur_mm": 0.11,
    "gain": 0.015,
    "grain": 1.0,
    "cortex": 1.0,
    "molars": 0.5,
    "two_roots": 0.0,
    "metal": 0.0,
    "tilt": 0.0,
    "place_x": 0.0,
    "place_y": 0.0,
    "jaw_size": 1.0,
    "field": 1.0,
}

ADDED: dict[str, dict[str, Any]] = {
    "pti.modules.tif_data.TifDataModule": {"folds": None, "fold": 0},
    "pti.data.augment.Augmentation": {"ridge": 0.0, "ridge_shift": 0.04},
    "pti.data.normalization.RangeNormalization": {"bright_limit": None},
    "pti.diffusion.samplers.ddpm": {"clip": None},
    "pti.data.phantom.make_phantom": {"style": _FIRST_STYLE},
    "pti.modules.latent_diffusion.LatentDiffusion": {
        "texture": None,
        "size_condition": None,
        "weight_channels": False,
    },
    "pti.modules.adversarial_vae.AdversarialVAE": {"attributes": None, "latent_noise": 0.0},
    "pti.modules.sizes.PixelSizes": {"ridge_grid": 0, "alignment": None},
    "pti.modules.optimization.LrSchedule": {"milestones": [0.6, 0.85]},
    "pti.networks.conditional_unet.ConditionalUNet": {"condition_maps": 0, "change_gate": False},
    "pti.networks.detail_transfer.DetailTransfer": {"by_region": False},
    "pti.networks.size_condition.SizeCondition": {"alignment": None},
}
"""Present ``_target_`` -> argument that older checkpoints lack -> value that does what was done then."""

KEYS = {"allow_changes": "allow_config_changes", "fresh_sweep": "new_sweep"}
"""Old top-level key of the configuration -> present one."""

WEIGHTS = {"first_stage.": "latent_space.first_stage.", "scaling.": "latent_space.scaling."}
"""Old beginning of a name in the ``state_dict`` -> present one."""


def migrate(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's content in the present format; the argument stays unchanged."""
    migrated, config = dict(content), content.get("config")
    if isinstance(config, dict):
        if content.get("format", 1) < FORMAT:
            config = _rename(config, KEYS)
            migrated["state_dict"] = _rename_weights(content.get("state_dict"))
            migrated["format"] = FORMAT
        migrated["config"] = _add(config)
    return migrated


def _rename_weights(state: Any) -> Any:
    if not isinstance(state, dict):
        return state
    old = {name: next((old for old in WEIGHTS if name.startswith(old)), "") for name in state}
    return {WEIGHTS.get(old[name], "") + name.removeprefix(old[name]): value for name, value in state.items()}


def _rename(value: Any, keys: Mapping[str, str]) -> Any:
    """Rename targets and arguments in nested containers, and ``keys`` in the outermost one."""
    if isinstance(value, dict):
        target = value.get("_target_")
        if isinstance(target, str):
            target = TARGETS.get(target, target)
            value = {**value, "_target_": target}
            keys = ARGUMENTS.get(target, {})
        return {keys.get(key, key): _rename(item, {}) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rename(item, {}) for item in value]
    return value


def _add(value: Any) -> Any:
    """Add arguments of `ADDED` that are missing in nested containers."""
    if isinstance(value, dict):
        target = value.get("_target_")
        added = ADDED.get(target, {}) if isinstance(target, str) else {}
        return {**added, **{key: _add(item) for key, item in value.items()}}
    return [_add(item) for item in value] if isinstance(value, (list, tuple)) else value
