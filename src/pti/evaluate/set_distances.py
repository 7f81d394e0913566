"""Predictions and truths as sets: distances of their features, and the audit against training images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pti.data import tif
from pti.evaluate.image_baselines import ImageBaseline
from pti.evaluate.result import CopiedImages
from pti.evaluate.scores import Case, Evaluated, mean_image
from pti.inference.features import EncodedImages, FeatureExtractor, Source, lite0_features, thumbnails
from pti.metrics.distribution import Distances, compare_sets
from pti.metrics.memorization import audit


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


def images_of(evaluated: Evaluated, method: str) -> list[Source]:
    """One raw image of a method for each slice: its first sample, the mean of its samples, or what a baseline
    makes of the condition.
    """
    make = evaluated.image_baselines.get(method)
    if make is not None:
        return [partial(_made, make, case) for case in evaluated.cases]
    if method in evaluated.cases[0].predictions:
        return [case.predictions[method][0] for case in evaluated.cases]
    of = next(name for name in evaluated.cases[0].predictions if mean_image(name) == method)
    return [partial(_mean_of, case.predictions[of]) for case in evaluated.cases]


def _made(make: ImageBaseline, case: Case) -> np.ndarray:
    assert case.condition is not None
    return make(tif.read(case.condition).pixels, case.patient)


def _mean_of(files: Sequence[Path]) -> np.ndarray:
    return np.mean([tif.read(file).pixels for file in files], axis=0)


def lite0_distances(evaluated: Evaluated, device: torch.device) -> list[Distances]:
    """KID and FID of every method with images, on features that nothing here was trained on."""
    targets = [case.target for case in evaluated.cases]
    true = lite0_features(targets, evaluated.data_range, "true images", device)
    predicted = {
        method: lite0_features(images_of(evaluated, method), evaluated.data_range, method, device)
        for method in _with_images(evaluated)
    }
    return compare_sets("lite0", predicted, true, [case.patient for case in evaluated.cases])


def autoencoder_distances(
    evaluated: Evaluated, probe: FeatureExtractor, targets: EncodedImages, known: Mapping[str, EncodedImages]
) -> list[Distances]:
    """The same on pooled latents of the first model's own autoencoder.

    Args:
        evaluated: the measurements.
        probe: the autoencoder.
        targets: the true images, probed.
        known: method -> its images, where they were probed already.
    """
    patients = [case.patient for case in evaluated.cases]
    predicted = {
        method: (known.get(method) or probe(images_of(evaluated, method), method)).pooled()
        for method in _with_images(evaluated)
    }
    return compare_sets("autoencoder", predicted, targets.pooled(), patients)


def _with_images(evaluated: Evaluated) -> list[str]:
    return [method for method, scores in evaluated.methods.items() if scores.figures]


def audit_pixels(cases: Sequence[Case], method: str, training: TrainingImages) -> CopiedImages:
    """The memorisation audit on small images (64 × 64): all samples against all training images."""
    names, files = _samples(cases, method)
    images = [thumbnails(paths) for paths in (files, [case.target for case in cases], training.files)]
    return _copied("pixels", images, names, files, training)


def audit_latents(
    cases: Sequence[Case],
    method: str,
    training: TrainingImages,
    probe: FeatureExtractor,
    targets: EncodedImages,
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
