"""Checkpoints of models that predict the edente bone: images of it, or its sizes alone."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import nn
from typing_extensions import TypeIs

from pti.common.errors import UsageError
from pti.common.path_settings import setting
from pti.modules.protocols import SizePredictor, Translator
from pti.runs.checkpoint import Checkpoint, load, open_checkpoint
from pti.runs.first_stage import SPLIT_KEYS

Module = TypeVar("Module", Translator, SizePredictor)


@dataclass(frozen=True)
class LoadedModel(Generic[Module]):
    """A checkpoint, loaded; or an ensemble, which is described by its first checkpoint.

    Attributes:
        checkpoint: The file with its configuration and its reference for trust, without the weights.
        module: The trained module, in evaluation mode, on the CPU.
        others: The other models of an ensemble.
    """

    checkpoint: Checkpoint
    module: Module
    others: "tuple[LoadedModel[Module], ...]" = ()

    @property
    def path(self) -> Path:
        """The checkpoint file."""
        return self.checkpoint.path

    @property
    def sha256(self) -> str:
        """SHA-256 of the checkpoint file; of an ensemble, of those of its files."""
        if not self.others:
            return self.checkpoint.sha256
        digests = [self.checkpoint.sha256, *(other.sha256 for other in self.others)]
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    @property
    def modules(self) -> list[Module]:
        """The modules of all models."""
        return [self.module, *(other.module for other in self.others)]

    def builder(self, in_this_process: bool) -> Callable[[], nn.ModuleList]:
        """Return a function that gives the modules, on the CPU; picklable unless it is for this process."""
        if in_this_process:
            modules: list[Any] = list(self.modules)
            return partial(nn.ModuleList, modules)
        return partial(_load_modules, [self.path, *(other.path for other in self.others)])

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


def ensemble(models: Sequence[LoadedPredictor]) -> LoadedTranslator:
    """Join models whose samples are pooled.

    Raises:
        UsageError: They predict sizes, or work on images of different sizes, or some draw samples and others
            don't, or one is listed twice.
    """
    translators = [model for model in models if not predicts_sizes(model)]
    if len(translators) < len(models):
        raise UsageError(
            "ckpt: found a model that predicts sizes alone, expected an ensemble of image models."
        )
    for name, values in {
        "data.image_size": [model.data["image_size"] for model in translators],
        "deterministic": [model.module.deterministic for model in translators],
    }.items():
        if len(set(values)) > 1:
            found = ", ".join(
                f"{value} ({model.path})" for value, model in zip(values, translators, strict=True)
            )
            raise UsageError(
                f"ckpt: the models of an ensemble differ in {name}: {found}. Expected one value."
            )
    digests = [model.sha256 for model in translators]
    if len(set(digests)) < len(digests):
        raise UsageError("ckpt: the same checkpoint is listed twice, expected different ones.")
    return replace(translators[0], others=tuple(translators[1:]))


def require_same_split(model: LoadedPredictor) -> None:
    """Refuse an ensemble whose models split the data set differently.

    Raises:
        UsageError: One was perhaps trained on images that another one holds out.
    """
    for other in model.others:
        for key in SPLIT_KEYS:
            first, second = (loaded.data.get(key) for loaded in (model, other))
            if first != second:
                raise UsageError(
                    f"ckpt: models of an ensemble were trained on different splits: data.{key} is {first} "
                    f"({model.path}) and {second} ({other.path}), so that one may have seen the images that "
                    "another holds out. Set input_dir to a folder of images that none was trained on."
                )


def _load_modules(paths: Sequence[Path]) -> nn.ModuleList:
    return nn.ModuleList([load(path) for path in paths])


def predicts_sizes(model: LoadedPredictor) -> TypeIs[LoadedSizePredictor]:
    """Tell whether a model predicts sizes alone, without images."""
    return isinstance(model.module, SizePredictor)
