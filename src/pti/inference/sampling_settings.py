"""Settings for sampling, as the configurations of ``translate`` and ``evaluate`` name them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pti.common.errors import UsageError
from pti.common.path_settings import setting
from pti.diffusion.samplers import Sampler
from pti.inference.sampling import Sampling

_KEYS = ("samples", "steps", "guidance_scale", "seed", "share_noise", "mirror", "precision")


def sampling_of(config: Mapping[str, Any], sampler: Sampler | None) -> Sampling:
    """Return the settings of a command's configuration, whose ``sampler`` is built already."""
    return Sampling(sampler=sampler, **{key: config[key] for key in _KEYS})


def refuse_sampling(config: Mapping[str, Any], ckpt: Path) -> None:
    """Refuse settings for sampling with a checkpoint that predicts sizes alone.

    Raises:
        UsageError: Some are set.
    """
    given = [key for key in ("sampler", "steps", "guidance_scale") if config[key] is not None]
    given += [key for key in ("share_noise", "mirror", "strict") if config.get(key)]
    given += ["precision"] if config["precision"] != "float32" else []
    if given:
        raise UsageError(
            f"{', '.join(given)}: {setting('ckpt', ckpt)} predicts sizes, it samples no images. Omit "
            f"{' and '.join(given)}, or choose the checkpoint of a diffusion model."
        )
