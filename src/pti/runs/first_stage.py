"""Puts a trained autoencoder into a second stage: first its configuration, then its weights."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

from lightning import LightningModule
from torch import Tensor

from pti.common.errors import UsageError
from pti.runs.checkpoint import CheckpointError, check_targets, read
from pti.runs.locate import fallbacks, resolve

_STAGE_1 = "pti.modules.adversarial_vae.AdversarialVAE"
_TARGET = "pti.networks.frozen_autoencoder.FrozenAutoencoder"


def embed_first_stage_config(config: dict[str, Any]) -> dict[str, Tensor] | None:
    """Fill ``config["model"]["first_stage"]``, where the model has one.

    A run that goes on (``ckpt_path``) keeps the autoencoder of its own checkpoint.

    Args:
        config: ``conf/train.yaml``, composed, plain; changed in place.

    Returns:
        The autoencoder's weights for `load_first_stage_weights`; None when the model takes no autoencoder, or a
        checkpoint brings them.

    Raises:
        UsageError: no autoencoder was named, or what was named isn't one, or doesn't fit.
        CheckpointError: its file is damaged or refused.
    """
    model = config["model"]
    if "first_stage" not in model:
        return None
    chosen = model.pop("normalization", None)
    if config.get("ckpt_path") is not None:
        path = resolve(str(config["ckpt_path"]))
        model["first_stage"] = _first_stage_of(path)
        return None
    if config.get("autoencoder_ckpt") is None:
        raise UsageError(
            "autoencoder_ckpt is not set: expected the checkpoint of a trained autoencoder, such as "
            "best:vae_baseline."
        )
    path = resolve(str(config["autoencoder_ckpt"]))
    content = read(path)
    stage_1 = _model(content, path)
    if stage_1.get("_target_") != _STAGE_1:
        found = stage_1.get("_target_", "no model")
        raise UsageError(
            f"autoencoder_ckpt={path}: found {found}, expected a checkpoint of stage 1 ({_STAGE_1})."
        )
    check_targets(stage_1, str(path))
    _require_same_normalization(chosen, stage_1["normalization"], path)
    _warn_of_other_split(config["data"], content["config"]["data"], path)
    parts = {name: stage_1[name] for name in ("autoencoder", "normalization")}
    model["first_stage"] = {"_target_": _TARGET, **parts}
    return _weights(content["state_dict"])


def load_first_stage_weights(module: LightningModule, weights: dict[str, Tensor]) -> None:
    """Load the autoencoder's weights into a new second stage."""
    module.get_submodule("first_stage").load_state_dict(weights)


def _first_stage_of(path: Path) -> Any:
    """The autoencoder of the checkpoint of stage 2 that a run goes on from."""
    for candidate in (path, *fallbacks(path)):
        with contextlib.suppress(CheckpointError):
            content = read(candidate)
            break
    else:
        content = read(path)  # says what is wrong with it
    model = _model(content, path)
    if model.get("first_stage") is None:
        found = model.get("_target_", "no model")
        raise UsageError(f"ckpt_path={path}: found {found}, expected a checkpoint of stage 2.")
    return model["first_stage"]


def _model(content: dict[str, Any], path: Path) -> dict[str, Any]:
    config = content.get("config")
    model = config.get("model") if isinstance(config, dict) else None
    if not isinstance(model, dict):
        raise UsageError(f"{path}: expected a checkpoint of `python -m pti.train`, found another file.")
    return model


def _weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of the averaged network, where there is an average."""
    network = "ema.model." if any(name.startswith("ema.model.") for name in state) else "autoencoder."
    taken = {network: "autoencoder.", "normalization.": "normalization."}
    return {
        to + name.removeprefix(prefix): value
        for prefix, to in taken.items()
        for name, value in state.items()
        if name.startswith(prefix)
    }


def _require_same_normalization(chosen: Any, trained: Any, path: Path) -> None:
    if chosen is not None and chosen.get("_target_") != trained.get("_target_"):
        raise UsageError(
            f"model/normalization: {chosen.get('_target_')} is configured, but the autoencoder {path} was "
            f"trained with {trained.get('_target_')}, which its latents depend on. Leave model/normalization "
            "as in its training, or train an autoencoder with the other one."
        )


def _warn_of_other_split(data: dict[str, Any], trained: dict[str, Any], path: Path) -> None:
    keys = ("split_seed", "fractions", "val_root", "test_root")
    other = [
        f"data.{key}={data.get(key)}, there {trained.get(key)}"
        for key in keys
        if data.get(key) != trained.get(key)
    ]
    if other:
        print(
            f"Warning: the patients are split otherwise than for the autoencoder {path} "
            f"({'; '.join(other)}): it may have seen patients that are held out now.",
            file=sys.stderr,
        )
