"""Compare predictions and true images as sets: KID of their features, and the memorization audit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pti.common.progress import track
from pti.data import tif
from pti.data.input_images import InputImage
from pti.evaluate.baselines import UNCHANGED
from pti.evaluate.image_baselines import ImageBaseline
from pti.evaluate.result import AuditedImages, Evaluation
from pti.evaluate.scores import Case, Measurements, at_size, mean_image
from pti.inference.features import (
    EncodedImages,
    FeatureExtractor,
    Source,
    lite0_features,
    read,
    thumbnails,
)
from pti.metrics.distribution import SetDistance, compare_sets, too_few_patients
from pti.metrics.memorization import audit
from pti.metrics.scattering import patch_centres, patch_features

MAX_PATCHES = 500


@dataclass(frozen=True)
class TrainingImages:
    """The targets that a model was trained on.

    Attributes:
        names: Names of the images.
        files: Files of the images.
        patients: Patient of each image.
    """

    names: Sequence[str]
    files: Sequence[Path]
    patients: Sequence[str]

    @classmethod
    def of_images(cls, images: Sequence[InputImage]) -> "TrainingImages":
        """Take images from a folder; one without a patient counts as a separate patient."""
        patients = [image.patient or image.name for image in images]
        return cls([image.name for image in images], [image.path for image in images], patients)


def with_set_comparison(
    evaluation: Evaluation,
    device: torch.device,
    training: TrainingImages | None,
    extractor: FeatureExtractor | None = None,
    encoded: Mapping[str, EncodedImages] | None = None,
) -> Evaluation:
    """Add the KID of every method with images, and the memorization audit of the main method.

    Args:
        evaluation: The evaluation so far.
        device: Device for the features.
        training: The training images; None = unknown, without an audit.
        extractor: The first model's autoencoder; None = without features of it.
        encoded: ``target`` and ``condition``: the slices' own images, encoded by the extractor.
    """
    measurements, notes = evaluation.measurements, list(evaluation.notes)
    distances, audits, encoded = _lite0_distances(measurements, device), [], encoded or {}
    if note := too_few_patients(measurements.patients):
        notes.append(note)
    if distances and extractor is not None:
        distances += _autoencoder_distances(measurements, extractor, encoded)
    if measurements.conditions is not None:
        distances += _changed_distances(measurements)
    if training is not None and len(set(training.patients)) < 2:
        notes.append("the memorization audit is left out: it needs held-out slices and the training images")
    elif training is not None:
        audits = _audits(measurements.cases, evaluation.main, training, extractor, encoded)
    return replace(evaluation, distances=distances, audits=audits, notes=notes)


def images_of(measurements: Measurements, method: str) -> list[Source]:
    """Return one raw image of a method for each slice.

    It is the first sample, the mean of the samples for a ``mean_image`` method, or the image that a baseline
    makes from the condition.
    """
    make_image, cases = measurements.image_baselines.get(method), measurements.cases
    if make_image is not None:
        return [partial(_from_condition, make_image, case) for case in cases]
    if method in cases[0].predictions:
        return [case.predictions[method][0] for case in cases]
    averaged = next(name for name in cases[0].predictions if mean_image(name) == method)
    return [partial(_average, case.predictions[averaged]) for case in cases]


def _from_condition(make_image: ImageBaseline, case: Case) -> np.ndarray:
    assert case.condition is not None
    return make_image(tif.read(case.condition).pixels, case.patient)


def _average(files: Sequence[Path]) -> np.ndarray:
    return np.mean([tif.read(file).pixels for file in files], axis=0)


def _methods_with_images(measurements: Measurements) -> list[str]:
    return [method for method, scores in measurements.methods.items() if scores.metrics]


def _lite0_distances(measurements: Measurements, device: torch.device) -> list[SetDistance]:
    """Compute the KID of every method with images, on features of a network trained on other images."""
    data_range, targets = measurements.data_range, [case.target for case in measurements.cases]
    true = lite0_features(targets, data_range, "true images", device)
    predicted = {
        method: lite0_features(images_of(measurements, method), data_range, method, device)
        for method in _methods_with_images(measurements)
    }
    return compare_sets("lite0", predicted, true, measurements.patients)


def _autoencoder_distances(
    measurements: Measurements, extractor: FeatureExtractor, encoded: Mapping[str, EncodedImages]
) -> list[SetDistance]:
    """Compute the same on pooled latents of the first model's own autoencoder."""
    known = {UNCHANGED: encoded["condition"]}
    predicted = {
        method: (known.get(method) or extractor(images_of(measurements, method), method)).pooled()
        for method in _methods_with_images(measurements)
    }
    return compare_sets("autoencoder", predicted, encoded["target"].pooled(), measurements.patients)


def _changed_distances(measurements: Measurements) -> list[SetDistance]:
    """Compute the KID on patches of the changed region, at most :data:`MAX_PATCHES` over all slices."""
    cases, size = measurements.cases, measurements.region_size
    centres = [patch_centres(measurements.regions(case).interior["changed"]) for case in cases]
    owner = np.repeat(np.arange(len(cases)), [len(places) for places in centres])
    chosen = np.linspace(0, len(owner), min(len(owner), MAX_PATCHES), endpoint=False).astype(int)
    owner, places = owner[chosen], np.concatenate(centres)[chosen]

    if not len(owner):
        return []

    def features(images: Sequence[Source], title: str) -> np.ndarray:
        return np.concatenate(
            [
                patch_features(
                    at_size(read(images[index]).pixels, size), places[owner == index], measurements.data_range
                )
                for index in track(np.unique(owner).tolist(), f"Texture of {title}")
            ]
        )

    predicted = {
        method: features(images_of(measurements, method), method)
        for method in _methods_with_images(measurements)
    }
    true = features([case.target for case in cases], "true images")
    return compare_sets("changed", predicted, true, [cases[index].patient for index in owner])


def _audits(
    cases: Sequence[Case],
    method: str,
    training: TrainingImages,
    extractor: FeatureExtractor | None,
    encoded: Mapping[str, EncodedImages],
) -> list[AuditedImages]:
    """Audit memorization on small images (64 × 64), and on latents if there is an autoencoder."""
    names, files = _samples(cases, method)
    thumbs = [thumbnails(paths) for paths in (files, [case.target for case in cases], training.files)]
    audits = [audit("pixels", thumbs[0], thumbs[1], thumbs[2], training.patients)]
    if extractor is not None:
        samples = extractor(files, "samples").flat()
        trained_on = extractor(training.files, "training images").flat()
        audits.append(audit("latents", samples, encoded["target"].flat(), trained_on, training.patients))
    return [AuditedImages(result, names, files, training.names, training.files) for result in audits]


def _samples(cases: Sequence[Case], method: str) -> tuple[list[str], list[Path]]:
    """Return names and files of all samples of a method."""
    names, files = [], []
    for case in cases:
        paths = case.predictions[method]
        files += paths
        several = len(paths) > 1
        names += [f"{case.name}, sample {index}" if several else case.name for index in range(len(paths))]
    return names, files
