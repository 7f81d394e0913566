"""Quality of an autoencoder on the validation images, measured before a training that builds on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from pti.modules.protocols import Autoencoder, autoencoder_of, reconstruct
from pti.modules.raw_agreement import BONE, TEXTURE
from pti.modules.tif_data import TifDataModule
from pti.modules.validation_metrics import ValidationMetrics

MAX_PATIENTS = 16

_SHOWN = {
    "psnr": "PSNR {:.1f} dB",
    "texture_amplitude": "texture amplitude {:.2f}",
    "bone_height_error_mm": "bone height error {:.2f} mm",
}


@torch.no_grad()
def measure_fit(
    autoencoder: Autoencoder, datamodule: TifDataModule, device: torch.device
) -> tuple[dict[str, float], int]:
    """Measure reconstructions of the validation patients, one sample of each.

    Args:
        autoencoder: Stage 1, or its frozen copy in stage 2; moved to ``device`` and left there.
        datamodule: Set up for fitting.
        device: The device to compute on.

    Returns:
        ``psnr`` (dB, normalised images), ``texture_amplitude``, ``bone_height_error_mm`` and the other
        metrics of `ValidationMetrics`; and the number of patients, at most `MAX_PATIENTS`.
    """
    dataset = datamodule.validation_set()
    first = {} if dataset is None else {sample.patient: sample for sample in reversed(dataset.samples)}
    samples = [first[patient] for patient in sorted(first)][:MAX_PATIENTS]
    if dataset is None or not samples:
        return {}, 0
    images, metrics = replace(dataset, samples=samples), ValidationMetrics([TEXTURE, BONE])
    metrics.reset(device)
    module: Any = autoencoder.to(device) if isinstance(autoencoder, torch.nn.Module) else autoencoder
    was_training = getattr(module, "training", False)
    if was_training:
        module.eval()
    for index in range(len(samples)):
        batch = images[0, index]
        for role in [key for key in ("condition", "target", "image") if key in batch]:
            raw = batch[role].to(device)
            prediction, statistics = reconstruct(module, raw), module.normalization.statistics(raw)
            metrics.add_images(
                *(module.normalization.normalize(image, statistics) for image in (raw, prediction))
            )
            metrics.add_raw(raw, prediction, batch["pixel_mm"].to(device))
    if was_training:
        module.train()
    return metrics.compute(), len(samples)


def report_fit(module: nn.Module, datamodule: TifDataModule, device: torch.device) -> dict[str, float]:
    """Measure the autoencoder in a module, if it has one, and print one line.

    Returns:
        The metrics of `measure_fit`; empty without an autoencoder or without validation images.
    """
    autoencoder = autoencoder_of(module)
    if autoencoder is None:
        return {}
    if not autoencoder.normalization.fitted:
        autoencoder.normalization.fit(datamodule.training_images())
    metrics, patients = measure_fit(autoencoder, datamodule, device)
    if line := fit_line(metrics, f"{patients} validation patient{'' if patients == 1 else 's'}"):
        print(line, flush=True)
    return metrics


def fit_line(metrics: Mapping[str, float], where: str) -> str:
    """Say in one line how well an autoencoder reconstructs; empty without metrics.

    Args:
        metrics: Of `measure_fit`, or of a validation of stage 1.
        where: What was reconstructed: ``16 validation patients``.
    """
    shown = [text.format(metrics[name]) for name, text in _SHOWN.items() if name in metrics]
    return f"The autoencoder on {where}: {', '.join(shown)}." if shown else ""
