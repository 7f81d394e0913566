"""Suite ``translate``: edente images by our sampler, and by 1000 steps of DDPM with the same network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pti.benchmark.comparison import Comparison, Run, Side, Work
from pti.benchmark.experiments import draw_pairs, fix_seed, phantom_overrides, save, save_untrained
from pti.benchmark.settings import SuiteSettings
from pti.common.errors import UsageError
from pti.common.path_settings import setting
from pti.common.precision import PRECISIONS, has_precision
from pti.common.randomness import sample_generator, sample_rank
from pti.diffusion.formulation import SamplingSchedule
from pti.diffusion.samplers import Generator, Progress, Sampler, ddpm
from pti.inference.sampling import Sampling, translate_squares

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

PLAIN_STEPS = 1000

_MATMUL = {"bf16": "bfloat16"}
"""Precision -> type of the matrix products whose rate was measured."""


@dataclass(frozen=True)
class Pairs:
    """Raw image pairs of the size that a model works on.

    Attributes:
        names: N names, which seed the noise.
        conditions, targets: (N, S, S) float32.
        patients: N patients; the name of an image whose patient is unknown.
    """

    names: list[str]
    conditions: np.ndarray
    targets: np.ndarray
    patients: list[str]


def translate_suite(settings: SuiteSettings) -> list[Comparison]:
    """Compare the time of a batch of images with 1000 steps, of the same network and of the plain recipe's.

    With a checkpoint, also compare the error of the same network.
    """
    model = "ldm_demo, untrained" if settings.ckpt is None else "the checkpoint"
    timed = "" if settings.plain_steps >= PLAIN_STEPS else f" ({settings.plain_steps} timed)"
    ours = Side(f"pti: {model}", partial(our_work, settings))
    rounded = [
        Side(f"pti: {model}, precision={name}", partial(our_work, settings, name), _MATMUL.get(name, name))
        for name in PRECISIONS[1:]
        if has_precision(name, settings.device)
    ]
    same = Side(f"plain: ddpm, {PLAIN_STEPS} steps{timed}", partial(plain_work, settings, open_module))
    network = partial(plain_work, settings, open_plain_module)
    recipe = Side(f"plain: cross-attention, {PLAIN_STEPS} steps{timed}", network)
    count, has_truth = len(open_pairs(settings).names), settings.ckpt is not None
    return [
        Comparison(
            "translate",
            "translation, same network",
            count,
            [ours, *rounded],
            same,
            counts_flops=True,
            has_truth=has_truth,
        ),
        Comparison(
            "translate",
            "translation, the plain recipe's network",
            count,
            [ours],
            recipe,
            counts_flops=True,
        ),
    ]


def our_work(settings: SuiteSettings, precision: str = "float32") -> Work:
    """Build the translation by the model's own sampler and steps."""
    module, pairs = open_module(settings), open_pairs(settings)
    own = Sampling().resolved(module).as_dict()
    run = partial(translate, module, pairs, precision=precision)
    note = f"{own['sampler']}, {own['steps']} steps"
    return Work(run, note=note, error=lambda: mean_absolute_error(run(), pairs))


def plain_work(settings: SuiteSettings, open_network: Callable[[SuiteSettings], Any]) -> Work:
    """Build the translation by ancestral sampling in 1000 steps, of which ``plain_steps`` are timed."""
    module, pairs = open_network(settings), open_pairs(settings)
    whole = partial(translate, module, pairs, sampler=ddpm, steps=PLAIN_STEPS)

    def error() -> float:
        return mean_absolute_error(whole(), pairs)

    if settings.plain_steps >= PLAIN_STEPS:
        return Work(whole, error=error)

    def first(steps: int) -> Run:
        return partial(translate, module, pairs, sampler=first_steps(steps), steps=PLAIN_STEPS)

    timed = settings.plain_steps
    note = f"{timed} of {PLAIN_STEPS} steps timed, the others in proportion"
    return Work(first(timed), first(1), timed, PLAIN_STEPS, note, error=error)


def translate(module: Any, pairs: Pairs, **settings: Any) -> np.ndarray:
    """Draw one sample for each condition, (N, S, S) raw, with the same noise in each call."""
    generators = [sample_generator(0, name, 0) for name in pairs.names]
    ranks = [sample_rank(0, name, 0) for name in pairs.names]
    with torch.inference_mode():
        return translate_squares(module, pairs.conditions, generators, ranks, **settings)


def mean_absolute_error(predicted: np.ndarray, pairs: Pairs) -> float:
    """Return the mean absolute error against the targets, raw units."""
    return float(np.abs(predicted - pairs.targets).mean())


def first_steps(count: int) -> Sampler:
    """Return the first steps of ancestral sampling; what follows is left out."""

    def sampler(
        denoise: Any,
        start: Tensor,
        schedule: SamplingSchedule,
        generator: Generator,
        progress: Progress = None,
    ) -> Tensor:
        parts = (schedule.times, schedule.x0, schedule.source, schedule.noise)
        begun = SamplingSchedule(*(part[: count + 1] for part in parts))
        return ddpm(denoise, start, begun, generator, progress)

    return sampler


def open_module(settings: SuiteSettings) -> Any:
    """Open the checkpoint, or build ``ldm_demo`` untrained, on the device and ready for inference.

    Raises:
        UsageError: The checkpoint is not that of a diffusion model.
    """
    from pti.runs.checkpoint import load

    if settings.ckpt is None:
        return load(save_stage_2(settings, "ldm_demo", image_size(settings)), settings.device)
    from pti.inference.loaded import open_predictor
    from pti.modules.latent_diffusion import LatentDiffusion

    module = open_predictor(settings.ckpt).module
    if not isinstance(module, LatentDiffusion):
        raise UsageError(
            f"{setting('ckpt', settings.ckpt)}: found {type(module).__name__}, which has no sampler; "
            "expected a diffusion model, such as best:ldm_demo."
        )
    return module.to(settings.device)


def open_plain_module(settings: SuiteSettings) -> Any:
    """Build the network of the plain recipe, untrained: cross-attention over all positions."""
    from pti.runs.checkpoint import load

    size = image_size(settings)
    return load(save_stage_2(settings, "ldm_baseline", size, "model.network.position=none"), settings.device)


def image_size(settings: SuiteSettings) -> int:
    """Return the edge of the images that the model works on, pixels."""
    from pti.runs.checkpoint import open_checkpoint

    if settings.ckpt is None:
        return min(128, settings.image_size)
    return open_checkpoint(settings.ckpt).config["data"]["image_size"]


def open_pairs(settings: SuiteSettings) -> Pairs:
    """Read the first pairs of the checkpoint's split, or without a checkpoint pairs of the phantom."""
    from pti.data import resize, tif

    size = image_size(settings)
    if settings.ckpt is None:
        root = draw_pairs(settings.scratch / f"translated_{size}", size, settings.translations)
        files = [(path, root / "edente" / path.name) for path in sorted((root / "dente").iterdir())]
        patients = [condition.stem for condition, _ in files]
    else:
        from pti.inference.inputs import find_inputs
        from pti.runs.checkpoint import open_checkpoint

        data = open_checkpoint(settings.ckpt).config["data"]
        number = settings.translations
        inputs = find_inputs(data, settings.split, settings.ckpt, num_samples=number, with_targets=True)
        files = [(image.path, inputs.targets[image.name]) for image in inputs.images]
        patients = [image.patient or image.name for image in inputs.images]
    images = [[resize.pad_and_resize(tif.read(file).pixels, size) for file in pair] for pair in files]
    conditions, targets = (np.stack(column).astype(np.float32) for column in zip(*images, strict=True))
    return Pairs([condition.stem for condition, _ in files], conditions, targets, patients)


def save_stage_2(settings: SuiteSettings, name: str, size: int, *overrides: str) -> Path:
    """Save an experiment of stage 2 untrained, after an untrained ``vae_demo``, unless it exists.

    Args:
        settings: Settings of the suite.
        name: The experiment.
        size: Edge of the images, pixels.
        overrides: Further overrides of the experiment.
    """
    path = settings.scratch / f"{name}_{size}.ckpt"
    if not path.exists():
        fix_seed()
        data = phantom_overrides(settings, size, 8, 4)
        first = save_untrained(settings, "vae_demo", data, settings.scratch / f"vae_demo_{size}.ckpt")
        stage_2 = [*data, f"autoencoder_ckpt={first}", "model/texture=none", *overrides]
        save(settings.build(name, stage_2), path)
    return path
