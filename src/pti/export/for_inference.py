"""The part of a checkpoint that inference needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pti.runs.checkpoint import Checkpoint
from pti.runs.exported import UNKNOWN_FOLDER

if TYPE_CHECKING:
    from torch import Tensor, nn

FOLDERS = ("root", "val_root", "test_root")
"""Keys of ``data`` that hold paths of the machine that trained."""

_TRAINING_PARTS = ("discriminator", "perceptual")
"""Arguments of a module that only its training needs."""

_DATA = (
    *("_target_", "layout", "sources", "image_size", "batch_size", "pixel_mm", "allow_links"),
    *("fractions", "folds", "fold", "split_seed"),
)
"""Keys of ``data`` that an exported model keeps: how to read images, and which patients it has seen."""


def content_for_inference(checkpoint: Checkpoint, module: nn.Module) -> dict[str, Any]:
    """Reduce a checkpoint's content: averaged weights in place of the trained ones, nothing of the training.

    A module that is built from it computes the same bits.

    Args:
        checkpoint: The checkpoint.
        module: Its module.
    """
    config = checkpoint.config
    kept = ("format", "versions", "data_fingerprint", "trust")
    content = {key: checkpoint.content[key] for key in kept if checkpoint.content.get(key) is not None}
    content["config"] = {"model": _model(config["model"]), "data": _data(config["data"])}
    content["state_dict"] = _weights(checkpoint.state, module)
    return content


def _weights(state: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    trained = module.trained_networks[0]  # pyright: ignore[reportIndexIssue]
    first = next(name for name, child in module.named_children() if child is trained)
    weights = {
        name: value for name, value in state.items() if not name.startswith(("ema.", "discriminator."))
    }
    averaged = {name: value for name, value in state.items() if name.startswith("ema.model.")}
    weights |= {name.replace("ema.model", first, 1): value for name, value in averaged.items()}
    return {name: value.detach().clone().contiguous() for name, value in weights.items()}


def _model(model: Mapping[str, Any]) -> dict[str, Any]:
    absent: dict[str, Any] = {key: None for key in (*_TRAINING_PARTS, "ema_decay") if key in model}
    attributes = model.get("attributes")
    if isinstance(attributes, dict):
        absent["attributes"] = {**attributes, "table": None}  # a path of the machine that trained
    return {**model, **absent}


def _data(data: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: data[key] for key in _DATA if key in data}
    kept |= {key: None if data.get(key) is None else UNKNOWN_FOLDER for key in FOLDERS}
    layout = kept.get("layout")
    if isinstance(layout, dict) and isinstance(layout.get("table"), str):
        kept["layout"] = {**layout, "table": Path(layout["table"]).name}
    return kept
