"""The model card: ``README.md`` with the front matter that model hubs read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from pti.common.errors import DataError, UsageError
from pti.common.files import write_text_atomically
from pti.drawing.page import render
from pti.inference.held_out import images_of_split
from pti.modules.protocols import autoencoder_of
from pti.runs.checkpoint import Checkpoint
from pti.runs.locate import checkpoint_names

_SPLITS = ("train", "val", "test")
_TAGS = ("pti", "medical", "dental")


class _Kind(NamedTuple):
    """Texts of a class of modules: what it is, what limits it, how to use it, and a command."""

    description: str
    limit: str
    usage: str
    example: str


_TRANSLATE = "python -m pti.translate ckpt=FOLDER input_dir=DENTE"
_ONE = "It predicts one image, close to the mean of all possible outcomes, which is blurrier than real bone."
_PREDICT = _Kind("", _ONE, "edente = model.translate(dente)[0]  # raw (H, W) array -> (H, W)", _TRANSLATE)
_SIZES = _Kind(
    "A network that predicts sizes of the healed bone, each as a distribution, from a jaw-bone cross-section "
    "that still shows the tooth (dente).",
    "Sizes are predictions with an uncertainty that holds for patients like those of the training.",
    'sizes = model.predict_sizes(dente, pixel_mm=0.15)  # {"height": (1, 39) quantiles in mm, …}',
    _TRANSLATE,
)
_KINDS = {
    "AdversarialVAE": _Kind(
        "A variational autoencoder of jaw-bone cross-sections (AutoencoderKL of MONAI, trained with an "
        "adversary): it encodes images as latents and decodes them again.",
        "Reconstructions lose fine structure.",
        "latents = model.encode(image)  # raw (H, W) array -> (1, C, h, w); model.decode(latents)",
        "python -m pti.reconstruct ckpt=FOLDER input_dir=IMAGES",
    ),
    "LatentDiffusion": _Kind(
        "A conditional latent diffusion model: from a jaw-bone cross-section that still shows the tooth "
        "(dente), it generates images of the healed bone without it (edente).",
        "Every sample is one possible outcome, not a measurement: draw several and look at their spread.",
        "samples = model.translate(dente, samples=8)  # raw (H, W) array -> (8, H, W)",
        _TRANSLATE,
    ),
    "Regression": _PREDICT._replace(
        description="A network that predicts, in one pass, the image of the healed bone (edente) from a "
        "jaw-bone cross-section that still shows the tooth (dente)."
    ),
    "LatentRegression": _PREDICT._replace(
        description="A network that predicts, in one pass through the latents of an autoencoder, the image "
        "of the healed bone (edente) from a jaw-bone cross-section that still shows the tooth (dente)."
    ),
    "PixelSizes": _SIZES,
    "LatentSizes": _SIZES,
}


def write_card(
    checkpoint: Checkpoint, module: nn.Module, path: Path, format_name: str, for_use: Mapping[str, Any]
) -> None:
    """Write the card: what the model is, its use, limits, data, validation and versions.

    Args:
        checkpoint: The checkpoint.
        module: Its module.
        path: The file; its folder exists.
        format_name: Format of the export; ``templates/use_FORMAT.md`` is the section on use.
        for_use: Values of that template, beside ``usage`` and ``example``.
    """
    kind = _KINDS[type(module).__name__]
    judges = format_name != "onnx" and checkpoint.content.get("trust") is not None
    validated, metrics = _validation(checkpoint)
    text = render(
        "export/templates/model_card.md",
        name=checkpoint_names([checkpoint.path])[0],
        tags=(*_TAGS, format_name),
        description=kind.description,
        limit=kind.limit,
        use=render(f"export/templates/use_{format_name}.md", **kind._asdict(), **for_use),
        properties=_properties(checkpoint, module),
        trust=(
            "`translate` marks them (`trust`, `unlike_training`); for that, the folder holds features of the "
            "training images."
            if judges
            else "Nothing in this folder can mark them: it has no reference for trust."
        ),
        data=_data_text(checkpoint),
        patients=_patients(checkpoint),
        validated=validated,
        metrics=metrics,
        versions=_texts(checkpoint.content.get("versions")),
        sha256=checkpoint.sha256,
    )
    write_text_atomically(path, text)


def _properties(checkpoint: Checkpoint, module: Any) -> dict[str, Any]:
    data, autoencoder = checkpoint.config["data"], autoencoder_of(module)
    size = data["image_size"]
    properties = {
        "input": "raw images with background exactly 0, single-channel",
        "image size of the networks": f"{size} × {size} pixels; other sizes are resized and restored",
        "pixel size, for files without one": f"{data['pixel_mm']:g} mm",
        "normalisation": type(module.normalization).__name__,
    }
    if autoencoder is not None:
        network: Any = getattr(autoencoder, "autoencoder", None)
        properties["latent channels"] = getattr(network, "latent_channels", "unknown")
    if type(module).__name__ == "LatentDiffusion":
        sampler = getattr(module.sampler, "func", module.sampler).__name__
        properties["path"] = f"{type(module.path).__name__}, prediction of {module.path.prediction_type}"
        properties["sampler"] = f"{sampler}, {module.sampling_steps} steps"
    if module.ema_decay:
        properties["weights"] = f"averaged (decay {module.ema_decay:g})"
    return properties


def _data_text(checkpoint: Checkpoint) -> str:
    data, fingerprint = checkpoint.config["data"], checkpoint.content.get("data_fingerprint")
    folds = data.get("folds")
    split = (
        f"fold {data.get('fold', 0)} of {folds} for testing"
        if folds
        else f"shares {', '.join(f'{share:g}' for share in data['fractions'])} of train, val, test"
    )
    known = (
        f"Fingerprint of the data: `{fingerprint}`."
        if fingerprint
        else "The data's fingerprint is not known."
    )
    return f"{known} Patients were split by a hash with the seed {data['split_seed']}: {split}."


def _patients(checkpoint: Checkpoint) -> dict[str, tuple[int, int]]:
    """Count patients and images, or pairs, of each split, where the data set is on this machine."""
    counts = {}
    for split in _SPLITS:
        try:
            images = images_of_split(checkpoint.config["data"], split, str(checkpoint.path))
        except (DataError, UsageError, KeyError):
            continue
        counts[split] = (len({image.patient for image in images}), len(images))
    return counts


def _validation(checkpoint: Checkpoint) -> tuple[str, dict[str, str]]:
    """Return a sentence on the best validation of the run, and its metrics."""
    found = next((best for best in _states(checkpoint) if best), None) or _of_summary(checkpoint.path)
    metrics = {
        key.removeprefix("val/"): f"{value:.4g}"
        for key, value in found.items()
        if re.fullmatch(r"val/\w+", str(key)) and isinstance(value, (int, float)) and math.isfinite(value)
    }
    epoch, own = found.get("epoch"), checkpoint.content.get("epoch")
    when = f"after epoch {epoch + 1}" if isinstance(epoch, int) else "of its training"
    other = ""
    if isinstance(own, int) and epoch != own:
        other = f" These weights are of epoch {own + 1}, not of this validation."
    return f"Best validation {when}, on the validation split.{other}", metrics


def _states(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    callbacks = checkpoint.content.get("callbacks")
    states = callbacks.values() if isinstance(callbacks, dict) else ()
    bests = [state.get("best") for state in states if isinstance(state, dict)]
    return [best for best in bests if isinstance(best, dict)]


def _of_summary(path: Path) -> dict[str, Any]:
    """Read the best validation from the ``summary.json`` of the run that a checkpoint lies in."""
    try:
        summary = json.loads((path.parents[1] / "summary.json").read_text(encoding="utf-8"))
        figures = dict(summary["figures"]) if summary["command"] == "train" else {}
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return {}
    return {key.removeprefix("best/"): value for key, value in figures.items() if key.startswith("best/")}


def _texts(versions: object) -> dict[str, str]:
    return {str(key): str(value) for key, value in versions.items()} if isinstance(versions, Mapping) else {}
