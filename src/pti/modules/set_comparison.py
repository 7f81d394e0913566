"""Predictions and truths as sets: distances of their features, and the audit against training images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pti.metrics.distribution import Distances, compare_sets
from pti.metrics.memorization import audit
from pti.metrics.scores import Case
from pti.modules.image_probe import Probe, Probed, lite0_features, thumbnails
from pti.report.evaluation import CopiedImages


@dataclass(frozen=True)
class TrainingImages:
    """The targets that a model was trained on.

    Attributes:
        names: of the images.
        files: their files.
        patients: whose they are.
    """

    names: Sequence[str]
    files: Sequence[Path]
    patients: Sequence[str]


def lite0_distances(
    cases: Sequence[Case], method: str, data_range: float, device: torch.device
) -> Distances | None:
    """KID and FID of a method's first samples, on features that nothing here was trained on."""
    targets = lite0_features([case.target for case in cases], data_range, "true images", device)
    files = [case.predictions[method][0] for case in cases]
    predicted = lite0_features(files, data_range, "predictions", device)
    return compare_sets("EfficientNet-Lite0 (ImageNet)", predicted, targets, [case.patient for case in cases])


def autoencoder_distances(cases: Sequence[Case], predicted: Probed, targets: Probed) -> Distances | None:
    """KID and FID on pooled latents of the model's own autoencoder.

    Args:
        cases: the slices.
        predicted: their first samples, probed.
        targets: their true images, probed.
    """
    patients = [case.patient for case in cases]
    return compare_sets(
        "own autoencoder (latents, 4 × 4 means)", predicted.pooled(), targets.pooled(), patients
    )


def audit_pixels(cases: Sequence[Case], method: str, training: TrainingImages) -> CopiedImages:
    """The memorisation audit on small images (64 × 64): all samples against all training images."""
    names, files = _samples(cases, method)
    images = [thumbnails(paths) for paths in (files, [case.target for case in cases], training.files)]
    return _copied("pixels", images, names, files, training)


def audit_latents(
    cases: Sequence[Case], method: str, training: TrainingImages, probe: Probe, targets: Probed
) -> CopiedImages:
    """The same on latents; ``targets`` are the true images, probed already."""
    names, files = _samples(cases, method)
    samples = probe(files, "samples").flat()
    return _copied(
        "latents",
        [samples, targets.flat(), probe(training.files, "training images").flat()],
        names,
        files,
        training,
    )


def _samples(cases: Sequence[Case], method: str) -> tuple[list[str], list[Path]]:
    names, files = [], []
    for case in cases:
        paths = case.predictions[method]
        names += [
            case.name if len(paths) == 1 else f"{case.name}, sample {index}" for index in range(len(paths))
        ]
        files += paths
    return names, files


def _copied(
    space: str, images: Sequence[np.ndarray], names: list[str], files: list[Path], training: TrainingImages
) -> CopiedImages:
    samples, real, trained_on = images
    found = audit(space, samples, real, trained_on, training.patients)
    return CopiedImages(found, names, files, training.names, training.files)
