"""Checkpoints of models that predict the edente bone: images of it, or its sizes alone."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from typing_extensions import TypeIs

from pti.common.errors import UsageError
from pti.common.path_settings import setting
from pti.modules.protocols import SizePredictor, Translator
from pti.runs.checkpoint import Checkpoint, open_checkpoint

Module = TypeVar("Module", Translator, SizePredictor)


@dataclass(frozen=True)
class LoadedModel(Generic[Module]):
    """A checkpoint, loaded.

    Attributes:
        checkpoint: The file with its configuration and its reference for trust, without the weights.
        module: The trained module, in evaluation mode, on the CPU.
    """

    checkpoint: Checkpoint
    module: Module

    @property
    def path(self) -> Path:
        """The checkpoint file."""
        return self.checkpoint.path

    @property
    def sha256(self) -> str:
        """SHA-256 of the checkpoint file."""
        return self.checkpoint.sha256

    @property
    def data(self) -> dict[str, Any]:
        """The ``data`` section of the training's configuration."""
        return self.checkpoint.config["data"]

    @property
    def pixel_mm(self) -> float:
        """Edge of a pixel in mm, for files without a resolution."""
        return self.data["pixel_mm"]


LoadedTranslator = LoadedModel[Translator]
LoadedSizePredictor = LoadedModel[SizePredictor]
LoadedPredictor = LoadedTranslator | LoadedSizePredictor


def open_predictor(name: str | Path) -> LoadedPredictor:
    """Load a checkpoint of the second stage, or one that predicts sizes.

    Args:
        name: Path of the checkpoint, or a name that `pti.runs.locate.resolve` understands.

    Raises:
        CheckpointError: The file can't be used.
        UsageError: The checkpoint does not exist, or is of another model.
    """
    opened = open_checkpoint(name)
    module = opened.load_module()
    kept = {key: opened.content[key] for key in ("config", "trust") if key in opened.content}
    checkpoint = replace(opened, content=kept)
    if isinstance(module, Translator):
        return LoadedModel(checkpoint, module)
    if isinstance(module, SizePredictor):
        return LoadedModel(checkpoint, module)
    raise UsageError(
        f"{setting('ckpt', opened.path)}: found a checkpoint of {type(module).__name__}, expected one of a "
        "second stage, such as best:ldm_demo, best:regression or best:sizes."
    )


def predicts_sizes(model: LoadedPredictor) -> TypeIs[LoadedSizePredictor]:
    """Tell whether a model predicts sizes alone, without images."""
    return isinstance(model.module, SizePredictor)
