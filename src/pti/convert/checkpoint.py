"""The converted checkpoint: a module of ours with the scripts' weights, in our format."""

from __future__ import annotations

import io
import math
import sys
from pathlib import Path
from typing import Any

import torch

from pti.common.errors import DataError, UsageError
from pti.common.files import write_bytes_atomically
from pti.convert.result import Result
from pti.convert.weights import load_first_stage, load_second_stage, measure_scale_factor, stage_of
from pti.data import resize, tif
from pti.data.input_images import find_images
from pti.data.splits import evenly_spaced
from pti.runs.constructors import build
from pti.runs.first_stage import embed_first_stage_config, load_first_stage_weights
from pti.runs.renamed import FORMAT
from pti.runs.summary import package_versions
from pti.runs.weights import Weights, open_weights

_MEASURED = 64  # edente images, for the scale of the latents
_AXES = (
    "The kernels were transposed, because the scripts read images with swapped axes: use images as they are "
    "stored, and don't rotate results."
)


def convert_weights(
    settings: dict[str, Any],
    experiments: dict[int, dict[str, Any]],
    autoencoder: Path | None,
    output_dir: Path,
    result: Result,
) -> None:
    """Write ``checkpoints/best.ckpt``, and note in ``result`` what it holds.

    Args:
        settings: ``conf/convert.yaml``, composed, plain.
        experiments: Stage -> ``model``, ``data`` and ``seed`` of its experiment.
        autoencoder: The converted checkpoint of stage 1, for weights of stage 2.
        output_dir: The command's folder.
        result: Changed in place.

    Raises:
        UsageError: Something that the weights need isn't named.
        DataError: The weights don't fit the settings.
    """
    weights = open_weights(settings["weights"])
    stage = stage_of(weights)
    if stage not in experiments:
        raise UsageError(
            f"config: found no settings of stage {stage}, which the weights {weights.path} belong to. Give "
            f"the JSON file with {'autoencoder_def' if stage == 1 else 'diffusion_def'}, too."
        )
    config = experiments[stage]
    swapped = bool(settings["swapped_axes"])
    torch.manual_seed(0)  # of a discriminator that isn't in the file
    if stage == 1:
        module = build(config["model"], "config")
        result.figures["networks"] = ", ".join(load_first_stage(module, weights, swapped))
    else:
        module = _second_stage(config, settings, weights, autoencoder, swapped, result)
    module.eval()
    result.checkpoint = output_dir / "checkpoints" / "best.ckpt"
    result.figures["stage"] = stage
    if swapped:
        result.warnings.append(_AXES)
        print(f"Note: {_AXES}")
    buffer = io.BytesIO()
    content = {"format": FORMAT, "config": config, "versions": package_versions()}
    torch.save({**content, "state_dict": module.state_dict(), "perceptual": "none"}, buffer)
    write_bytes_atomically(result.checkpoint, buffer.getvalue())


def _second_stage(
    config: dict[str, Any],
    settings: dict[str, Any],
    weights: Weights,
    autoencoder: Path | None,
    swapped: bool,
    result: Result,
) -> Any:
    if autoencoder is None:
        raise UsageError(
            f"autoencoder_ckpt is not set: the weights {weights.path} work on the latents of an autoencoder. "
            "Convert that first, and name its checkpoint."
        )
    config["autoencoder_ckpt"], config["ckpt_path"] = str(autoencoder), None
    first_stage = embed_first_stage_config(config)
    module = build(config["model"], "config")
    assert first_stage is not None
    load_first_stage_weights(module, first_stage)
    factor = settings["scale_factor"]
    if factor is None:
        factor = _measured_factor(module, config["data"])
        text = (
            f"scale_factor {factor:.5g} was measured on edente images; the scripts' own is in their output."
        )
        print(f"Warning: {text}", file=sys.stderr)
        result.warnings.append(text)
    result.figures["scale_factor"] = float(factor)
    load_second_stage(module, weights, swapped, float(factor))
    return module


def _measured_factor(module: Any, data: dict[str, Any]) -> float:
    folder = Path(str(data["root"])) / "edente"
    if not folder.is_dir():
        raise UsageError(
            f"scale_factor is not set, and {folder} doesn't exist to measure it. Set it to the number behind "
            '"Final scale_factor" in the training\'s output, or set data.root.'
        )
    images = [
        torch.from_numpy(resize.pad_and_resize(tif.read(image.path).pixels, data["image_size"]).copy())
        for image in evenly_spaced(find_images(folder), _MEASURED)
    ]
    factor = measure_scale_factor(module.latent_space.first_stage, [image[None, None] for image in images])
    if not math.isfinite(factor):
        raise DataError(f"{folder}: the latents of its images don't vary; expected the training's images.")
    return factor
