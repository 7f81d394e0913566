"""Construction of what a checkpoint's configuration describes, restricted to a fixed set of names.

A configuration from a file must not be able to act: only `CONSTRUCTORS` are called, matched by their exact
names before anything is imported, and only with arguments that their signatures name.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cache, partial
from pkgutil import resolve_name
from typing import Any

from pti.common.errors import DataError

_NAMES = {
    "monai.networks.nets": "AutoencoderKL PatchDiscriminator",
    "monai.networks.nets.autoencoderkl": "AutoencoderKL",
    "monai.networks.nets.patchgan_discriminator": "PatchDiscriminator",
    "pti.data.augment": "Augmentation",
    "pti.data.layouts": "csv_table paired_folders single_folder",
    "pti.data.normalization": "MaskedZScore RangeNormalization",
    "pti.diffusion.paths": "BrownianBridge Cosine RectifiedFlow ScaledLinear",
    "pti.diffusion.samplers": "ddim ddpm dpm_solver euler first_step heun",
    "pti.losses": "Term feature_matching focal_frequency gradient hinge l1 l2 lsgan",
    "pti.modules.adversarial_vae": "AdversarialVAE",
    "pti.modules.attributes": "LatentAttributes",
    "pti.modules.latent_diffusion": "LatentDiffusion",
    "pti.modules.optimization": "LrSchedule",
    "pti.modules.regression": "LatentRegression Regression",
    "pti.modules.sizes": "LatentSizes PixelSizes",
    "pti.networks.alignment": "Alignment",
    "pti.networks.conditional_unet": "ConditionalUNet",
    "pti.networks.dct_autoencoder": "DctAutoencoderKL",
    "pti.networks.detail_transfer": "DetailTransfer",
    "pti.networks.frozen_autoencoder": "FrozenAutoencoder",
    "pti.networks.local_autoencoder": "LocalAutoencoderKL",
    "pti.networks.size_network": "SizeNetwork",
    "pti.networks.size_condition": "SizeCondition",
    "pti.networks.texture_synthesis": "TextureSynthesis",
    "torch.optim": "Adam AdamW NAdam RAdam RMSprop SGD",
}

CONSTRUCTORS = frozenset(f"{module}.{name}" for module, names in _NAMES.items() for name in names.split())
"""Classes and functions that a checkpoint's configuration may name: those of conf/model and conf/data."""

TRAINING_ONLY = ("perceptual",)
"""Arguments that matter in training only; they may need downloads, so they are never built from a file."""

_RESERVED = ("_target_", "_partial_", "_convert_")


class CheckpointError(DataError):
    """A checkpoint cannot be used: parts are missing, it is damaged, or its contents could execute code."""


def build(config: dict[str, Any], source: str) -> Any:
    """Build what a configuration (``config["model"]``, ``config["data"]["layout"]``) describes.

    Args:
        config: Plain containers; a dict with ``_target_`` is a call, with ``_partial_: true`` a partial one.
        source: Origin of the configuration, for messages.

    Raises:
        CheckpointError: It names something outside `CONSTRUCTORS` or an unknown argument, or a constructor
            rejects its arguments.
    """
    config = {key: None if key in TRAINING_ONLY else value for key, value in config.items()}
    check_targets(config, source)
    return _build(config, source)


def check_targets(config: Any, source: str) -> None:
    """Refuse a configuration that names anything but `CONSTRUCTORS` and their arguments.

    All names are compared before the first import.

    Raises:
        CheckpointError: A ``_target_`` or an argument is refused, or a value would be interpolated.
    """

    def refusal(reason: str) -> CheckpointError:
        return CheckpointError(f"{source}: refused, because {shortened(reason)}.")

    calls = []
    for place, key, value in _walk({"config": config}):
        if isinstance(value, str) and "${" in value:
            raise refusal(f"{place}={value} would be evaluated")
        if key == "_target_" and not (isinstance(value, str) and value in CONSTRUCTORS):
            raise refusal(
                f"{place}={value} is not among the {len(CONSTRUCTORS)} constructors that a checkpoint may "
                "name (pti.runs.constructors)"
            )
        if key.startswith("_") and key not in _RESERVED:
            raise refusal(f"the key {place} has a special meaning")
        if isinstance(value, dict) and "_target_" in value:
            calls.append((place, value))
    for place, call in calls:
        target = call["_target_"]
        unknown = ", ".join(str(key) for key in call if key not in {*_RESERVED, *_parameters(target)})
        if unknown:
            raise refusal(f"{target} ({place}) has no argument {unknown}")


def _walk(value: Any, place: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield the dotted path, the key and the value of every item in nested containers."""
    if isinstance(value, (list, tuple, set)):
        value = dict(enumerate(value))
    for key, item in value.items() if isinstance(value, dict) else ():
        inner = f"{place}.{key}".lstrip(".")
        yield inner, str(key), item
        yield from _walk(item, inner)


def _build(value: Any, source: str) -> Any:
    if isinstance(value, (list, tuple)):
        return [_build(item, source) for item in value]
    if not isinstance(value, dict):
        return value
    arguments = {key: _build(item, source) for key, item in value.items() if key not in _RESERVED}
    if "_target_" not in value:
        return arguments
    call = partial(resolve_name(value["_target_"]), **arguments)
    if value.get("_partial_", False):
        return call
    try:
        return call()
    except CheckpointError:
        raise
    except Exception as error:
        reason = f"{value['_target_']} rejects its arguments ({shortened(error)})"
        raise CheckpointError(f"{source}: {reason}.") from error


def shortened(value: object) -> str:
    """Return the text of a value or an error from a file on one line, in at most 300 characters."""
    words = " ".join(str(value).split()) or type(value).__name__
    return words if len(words) <= 300 else f"{words[:299]}…"


@cache
def _parameters(name: str) -> frozenset[str]:
    """Return the names of a constructor's arguments and of those that it passes on to base classes."""
    constructor = resolve_name(name)
    if not inspect.isclass(constructor):
        return frozenset(inspect.signature(constructor).parameters)
    names: set[str] = set()
    for base in constructor.__mro__:
        if "__init__" in vars(base):
            parameters = list(inspect.signature(base.__init__).parameters.values())[1:]
            names |= {parameter.name for parameter in parameters if parameter.kind != parameter.VAR_KEYWORD}
            if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
                break
    return frozenset(names)
