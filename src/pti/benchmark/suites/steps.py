"""Suite ``steps``: error and cost of a trained model's samples, by sampler and number of steps.

One sample of each image, with the same noise for all samplers, by the model's own sampler, by 1000 steps of
ancestral sampling with the same network, and by other numbers of steps.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from pti.benchmark.device import synchronize
from pti.benchmark.settings import SuiteSettings
from pti.benchmark.suites.translate import PLAIN_STEPS, Pairs, open_module, open_pairs, translate
from pti.diffusion.samplers import Sampler, ddim, ddpm, first_step, heun
from pti.inference.reconstructions import fixed_data_range
from pti.metrics.bootstrap import Mean, bootstrap_mean
from pti.metrics.translation import translation_metrics
from pti.runs.checkpoint import open_checkpoint

METRICS = {"height_error_mm": "mm", "bone_dice": "Dice", "psnr": "dB", "ssim": "SSIM"}
"""Metric of a sample against its target -> its unit."""

HEUN_STEPS = (1, 2, 3, 4, 5, 8, 16, 50)
DDIM_STEPS = (1, 2, 4, 8, 16, 50, 250)


@dataclass(frozen=True)
class Measured:
    """What a sampler cost and how far its samples are from the targets.

    Attributes:
        evaluations: Evaluations of the denoiser for a sample.
        ms: Time of an image, from its raw values to those of its sample, ms; a single run.
        metrics: Metric -> (N,).
    """

    evaluations: int
    ms: float
    metrics: dict[str, np.ndarray]


def steps_suite(settings: SuiteSettings) -> list[dict[str, Any]]:
    """Sample the first ``settings.translations`` images of the split by each sampler.

    Returns:
        For each sampler, evaluations of the network, time and its ratio to that of 1000 steps, and the mean
        of each metric; and for the height error and Dice the difference from 1000 steps, whose interval
        (95 %, bootstrap over patients) is ``low`` to ``high``.
    """
    from pti.common.progress import track

    module, pairs = open_module(settings), open_pairs(settings)
    plain = f"ddpm, {PLAIN_STEPS} steps"
    ways: dict[str, tuple[Sampler | None, int | None]] = {"the model's own": (None, None)}
    ways |= {plain: (ddpm, PLAIN_STEPS), "first_step": (first_step, 1)}
    ways |= {f"heun, {steps} steps": (heun, steps) for steps in HEUN_STEPS}
    ways |= {f"ddim, {steps} steps": (ddim, steps) for steps in DDIM_STEPS}
    measured: dict[str, Measured] = {}
    translate(module, pairs, steps=1, sampler=first_step)  # warm-up
    for name in track(list(ways), "Sampling"):
        sampler, steps = ways[name]
        measured[name] = _measure(settings, module, pairs, sampler, steps)
    return [row for name, one in measured.items() for row in _rows(name, one, measured[plain], pairs)]


def _measure(
    settings: SuiteSettings, module: Any, pairs: Pairs, sampler: Sampler | None, steps: int | None
) -> Measured:
    """Draw a sample of each image, and compare it with its target."""
    evaluations = 0

    def count(network: nn.Module, arguments: tuple[Any, ...]) -> None:
        nonlocal evaluations
        evaluations += 1

    hook = module.inference_network.register_forward_pre_hook(count)
    synchronize(settings.device)
    start = time.perf_counter()
    samples = translate(module, pairs, sampler=sampler, steps=steps)
    synchronize(settings.device)
    ms = 1000 * (time.perf_counter() - start) / len(samples)
    hook.remove()
    pixel_mm, data_range = _scales(settings, module, pairs)
    triples = zip(pairs.conditions, samples, pairs.targets, strict=True)
    rows = [
        translation_metrics(condition, [sample], pixel_mm, data_range, target)
        for condition, sample, target in triples
    ]
    return Measured(evaluations, ms, {name: np.array([row[name] for row in rows]) for name in METRICS})


def _scales(settings: SuiteSettings, module: Any, pairs: Pairs) -> tuple[float, float]:
    """Return the edge of a pixel, mm, and the data range, raw units."""
    pixel_mm = open_checkpoint(str(settings.ckpt)).config["data"]["pixel_mm"]
    tissue = pairs.targets[pairs.targets != 0]
    bounds = float(tissue.min()), float(tissue.max())
    return pixel_mm, fixed_data_range(module.normalization, bounds)[0]


def _rows(name: str, one: Measured, plain: Measured, pairs: Pairs) -> list[dict[str, Any]]:
    """Describe a sampler in rows of the report."""
    rows: list[dict[str, Any]] = [
        {"what": name, "way": "evaluations", "unit": "of the network", "median": one.evaluations},
        {"what": name, "way": "time", "unit": "ms per image", "median": one.ms},
        {"what": name, "way": "times faster", "unit": "than 1000 steps", "median": plain.ms / one.ms},
    ]
    for metric, unit in METRICS.items():
        mean = bootstrap_mean(one.metrics[metric], pairs.patients)
        rows.append(_row(name, metric, unit, mean))
    for metric in ("height_error_mm", "bone_dice"):
        difference = bootstrap_mean(one.metrics[metric] - plain.metrics[metric], pairs.patients)
        rows.append(_row(name, f"{metric}, difference", METRICS[metric], difference))
    return rows


def _row(what: str, way: str, unit: str, mean: Mean) -> dict[str, Any]:
    return {"what": what, "way": way, "unit": unit, "median": mean.value, "low": mean.low, "high": mean.high}
