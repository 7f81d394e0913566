"""Weights of the scripts in our modules, whose images have rows and columns as they are stored.

The scripts read images with ITK's axes: their networks see every image transposed. A convolution whose kernel
is transposed maps a transposed image to the transposed result; group norms, attention without positions and
sampling up and down treat both axes alike. Transposing all kernels therefore gives the same network for
images as they are stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pti.common.errors import DataError, UsageError
from pti.common.path_settings import setting
from pti.runs.weights import Match, Weights, match, require_finite

PROJECTOR = "condition_projector_state_dict"
UNET = "unet_state_dict"


def stage_of(weights: Weights) -> int:
    """Return 2 for weights of the scripts' diffusion, else 1.

    Raises:
        UsageError: The file holds the UNet alone, or is a checkpoint of ours.
    """
    if weights.checkpoint is not None:
        raise UsageError(
            f"{setting('weights', weights.path)}: found a checkpoint of this program, expected weights of "
            "the scripts."
        )
    if PROJECTOR in weights.content:
        return 2
    if any("down_blocks." in name for name in weights.tensors):
        raise UsageError(
            f"{setting('weights', weights.path)}: found a UNet without its condition projector; expected "
            "checkpoint_epochN.pth, which holds both."
        )
    return 1


def transposed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Transpose the two spatial axes of every kernel (O, I, h, w); leave everything else."""
    return {name: value.mT.contiguous() if value.ndim == 4 else value for name, value in state.items()}


def load_first_stage(module: nn.Module, weights: Weights, swapped: bool) -> list[str]:
    """Load the autoencoder, and the discriminator if it is there, into an `AdversarialVAE`.

    Returns:
        The names of the networks that were loaded.

    Raises:
        DataError: The autoencoder's weights don't fit the settings.
    """
    loaded = []
    for name, prefixes in (
        ("autoencoder", ("", "autoencoder_state_dict.")),
        ("discriminator", ("discriminator_state_dict.",)),
    ):
        network = module.get_submodule(name)
        matched = match(weights.tensors, network.state_dict(), prefixes)
        if name == "autoencoder" or matched.fitting:
            _load(network, matched, weights, swapped, f"{name}_def")
            loaded.append(name)
    return loaded


def load_second_stage(module: Any, weights: Weights, swapped: bool, scale_factor: float) -> None:
    """Load UNet and condition projector into a `LatentDiffusion`, and set the scaling of its latents.

    The scripts multiply the target's latents by ``scale_factor``, and project the condition's latents as they
    are. Here, both are multiplied: the projection's weights are divided by the factor instead.

    Raises:
        DataError: The weights don't fit the settings.
    """
    network, scaling = module.network, module.latent_space.scaling
    unet = match(weights.tensors, network.unet.state_dict(), (f"{UNET}.",))
    _load(network.unet, unet, weights, swapped, "diffusion_def")
    projection = network.tokens.projection
    projector = match(weights.tensors, projection.state_dict(), (f"{PROJECTOR}.",))
    _load(projection, projector, weights, False, "diffusion_def.cross_attention_dim")
    with torch.no_grad():
        projection.weight /= scale_factor
        scaling.shift.zero_()
        scaling.scale.fill_(1 / scale_factor)
        scaling.fitted.fill_(True)


def measure_scale_factor(first_stage: Any, images: Sequence[Tensor]) -> float:
    """Return 1 / standard deviation of the latents of raw edente images, (1, 1, S, S) each.

    The scripts measured it on one random batch, and didn't store it.
    """
    total, squares, count = 0.0, 0.0, 0
    for raw in images:
        posterior = first_stage.encode(raw)
        mean = posterior.mean.double()
        total += float(mean.sum())
        squares += float((mean.square() + posterior.std.double().square()).sum())
        count += mean.numel()
    return (squares / count - (total / count) ** 2) ** -0.5


def _load(network: nn.Module, matched: Match, weights: Weights, swapped: bool, key: str) -> None:
    if not matched.fitting or not matched.complete:
        shapes = [
            f"{name}: {list(there)} in the file, {list(here)} here"
            for name, (there, here) in matched.other_shape.items()
        ]
        problems = [
            *shapes,
            *(f"{name}: not in the file" for name in matched.missing),
            *(f"{name}: only in the file" for name in matched.unused),
        ]
        raise DataError(
            f"{weights.path}: its weights don't fit {key} in config; {len(problems)} differ: "
            f"{'; '.join(problems[:4])}. Give the settings that the weights were trained with."
        )
    require_finite(matched.fitting, weights.path)
    network.load_state_dict(transposed(matched.fitting) if swapped else matched.fitting)
