"""Transfer of a trained autoencoder into a second stage: its configuration, then its weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pti.common.errors import UsageError
from pti.common.path_settings import setting
from pti.runs.checkpoint import Checkpoint, ForeignFileError, open_checkpoint, open_intact
from pti.runs.constructors import check_targets
from pti.runs.locate import resolve

if TYPE_CHECKING:
    from torch import Tensor, nn

FIRST_STAGE = "latent_space.first_stage."
"""What precedes the names of the autoencoder's weights in a checkpoint of stage 2."""

SPLIT_KEYS = ("split_seed", "fractions", "val_root", "test_root", "folds", "fold")
"""Keys of ``data`` that, with a patient's name, decide its split."""

_STAGE_1 = "pti.modules.adversarial_vae.AdversarialVAE"


def embed_first_stage_config(
    config: dict[str, Any], resumed: Checkpoint | None = None, initial: Checkpoint | None = None
) -> dict[str, Tensor] | None:
    """Fill ``config["model"]["first_stage"]`` if the model has a first stage.

    A resumed run (``ckpt_path``) keeps the autoencoder of its own checkpoint. A run that starts from the
    weights of a stage 2 (``init_from``) keeps that one's autoencoder, unless another one is named.

    Args:
        config: ``conf/train.yaml``, composed, plain; changed in place.
        resumed: The checkpoint ``ckpt_path``, if it is open already.
        initial: The checkpoint ``init_from``, if it is one.

    Returns:
        The autoencoder's weights for `load_first_stage_weights`; None if the model has no first stage, or if
        the resumed checkpoint contains the weights.

    Raises:
        UsageError: No autoencoder is named, or the named checkpoint holds none or does not fit.
        CheckpointError: The checkpoint is damaged or refused.
    """
    model = config["model"]
    if "first_stage" not in model:
        return None
    normalization = model.pop("normalization", None)
    try:
        if config.get("ckpt_path") is not None:
            resumed = resumed or open_intact(resolve(str(config["ckpt_path"])))[0]
            model["first_stage"] = _first_stage_of(resumed)
            return None
        if config.get("autoencoder_ckpt") is not None:
            checkpoint = open_checkpoint(str(config["autoencoder_ckpt"]))
        elif initial is not None and _has_first_stage(initial):
            model["first_stage"] = _first_stage_of(initial, "init_from")
            return _first_stage_weights(initial.state)
        else:
            raise UsageError(
                "autoencoder_ckpt is not set: expected the checkpoint of a trained autoencoder, such as "
                "best:vae_baseline."
            )
    except ForeignFileError as error:
        raise UsageError(str(error)) from error
    model["first_stage"] = _frozen(checkpoint, normalization)
    what = f"the autoencoder {checkpoint.path}"
    for warning in warnings_about_other_split(config["data"], checkpoint.config["data"], what):
        print(f"Warning: {warning}", file=sys.stderr)
    return _inference_weights(checkpoint.state)


def _frozen(checkpoint: Checkpoint, normalization: Any) -> dict[str, Any]:
    """Return the configuration of a frozen copy of the autoencoder in a checkpoint of stage 1.

    Args:
        checkpoint: The checkpoint.
        normalization: The configured normalisation, which must be the autoencoder's; None = not configured.
    """
    stage_1, path = checkpoint.config["model"], checkpoint.path
    if stage_1.get("_target_") != _STAGE_1:
        raise UsageError(
            f"{setting('autoencoder_ckpt', path)}: found {stage_1.get('_target_', 'no model')}, expected a "
            f"checkpoint of stage 1 ({_STAGE_1})."
        )
    first_stage = {
        "_target_": "pti.networks.frozen_autoencoder.FrozenAutoencoder",
        "autoencoder": stage_1["autoencoder"],
        "normalization": stage_1["normalization"],
    }
    check_targets(first_stage, str(path))
    _require_same_normalization(normalization, stage_1["normalization"], path)
    return first_stage


def load_first_stage_weights(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load the autoencoder's weights into a new second stage."""
    module.get_submodule("latent_space.first_stage").load_state_dict(weights)


def _has_first_stage(checkpoint: Checkpoint) -> bool:
    return checkpoint.config["model"].get("first_stage") is not None


def _first_stage_of(checkpoint: Checkpoint, key: str = "ckpt_path") -> dict[str, Any]:
    """Return the configuration of the autoencoder in the stage-2 checkpoint that ``key`` names."""
    model, path = checkpoint.config["model"], checkpoint.path
    if not _has_first_stage(checkpoint):
        raise UsageError(
            f"{setting(key, path)}: found {model.get('_target_', 'no model')}, expected a checkpoint "
            "of stage 2."
        )
    check_targets(model["first_stage"], str(path))
    return model["first_stage"]


def _first_stage_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Select the weights of the frozen autoencoder in a second stage."""
    return {
        name.removeprefix(FIRST_STAGE): value for name, value in state.items() if name.startswith(FIRST_STAGE)
    }


def _inference_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Select the weights of the autoencoder, averaged if there is an average, and of its normalisation."""
    averaged = any(name.startswith("ema.model.") for name in state)
    prefix = "ema.model." if averaged else "autoencoder."
    return {
        name.replace(prefix, "autoencoder.", 1): value
        for name, value in state.items()
        if name.startswith((prefix, "normalization."))
    }


def _require_same_normalization(configured: Any, trained: Any, path: Path) -> None:
    if configured is not None and configured.get("_target_") != trained.get("_target_"):
        raise UsageError(
            f"model/normalization: {configured.get('_target_')} is configured, but the autoencoder {path} "
            f"was trained with {trained.get('_target_')}, which its latents depend on. Leave "
            "model/normalization as in its training, or train an autoencoder with the other one."
        )


def warnings_about_other_split(data: dict[str, Any], trained: dict[str, Any], what: str) -> list[str]:
    """Say if the patients are split differently than for ``what``, which was trained before; else nothing."""
    differences = [
        f"data.{key}={data.get(key)}, there {trained.get(key)}"
        for key in SPLIT_KEYS
        if data.get(key) != trained.get(key)
    ]
    if not differences:
        return []
    return [
        f"the patients are split differently than for {what} ({'; '.join(differences)}): it may have seen "
        "patients that are held out now."
    ]
