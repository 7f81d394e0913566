"""Evaluate folders of predicted images against a folder of true images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pti.data.input_images import find_images
from pti.data.layouts import PATIENT_PATTERN
from pti.evaluate.evaluation import (
    PIXEL_MM,
    EvaluationInput,
    EvaluationOutcome,
    EvaluationSettings,
    evaluate_predictions,
    fingerprint,
    provenance_of_run,
)
from pti.evaluate.predictions import match_folders, method_names
from pti.inference.calibration_file import missing_calibration, read_calibration


@dataclass(frozen=True)
class Folders:
    """Folders of images, matched by name.

    Attributes:
        predictions: a folder for each method; the report is about the first.
        target: the true images.
        condition: the images that the predictions were made from; None = unknown.
        training: the true images that a model was trained on; None = unknown.
        patient_pattern: regular expression for a name, with a group ``patient``.
    """

    predictions: Sequence[Path]
    target: Path
    condition: Path | None = None
    training: Path | None = None
    patient_pattern: str = PATIENT_PATTERN


def evaluate_folders(folders: Folders, settings: EvaluationSettings) -> EvaluationOutcome:
    """Evaluate folders of predictions.

    Raises:
        DataError: No names match, or a file can't be used.
    """
    methods = method_names(folders.predictions)
    matched = match_folders(methods, folders.target, folders.condition, folders.patient_pattern)
    cases, main = matched.cases[: settings.num_samples], next(iter(methods))
    corrections, provenance, notes = None, {"truths": str(folders.target.absolute())}, list(matched.notes)
    if settings.calibration is not None:
        samples = len(cases[0].predictions[main])
        corrections, provenance["calibration"] = read_calibration(settings.calibration, samples)
        notes += missing_calibration(corrections, provenance["calibration"])
    evaluation = evaluate_predictions(
        EvaluationInput(
            cases,
            main,
            folders.target.absolute().parent,
            settings.data_range,
            settings.pixel_mm or PIXEL_MM,
            corrections=corrections,
            seed=settings.seed,
            notes=notes,
        )
    )
    if settings.distributions:
        # Imported here because torch takes seconds, while worker processes measure.
        from pti.evaluate.set_distances import TrainingImages, with_set_comparison
        from pti.inference.devices import choose_devices

        training = None
        if folders.training is not None:
            images = find_images(folders.training, folders.patient_pattern)
            training = TrainingImages(
                [image.name for image in images],
                [image.path for image in images],
                [image.patient or image.name for image in images],
            )
        evaluation = with_set_comparison(evaluation, choose_devices("auto", 1)[0], training)
    provenance |= {f"predictions, {name}": str(folder.absolute()) for name, folder in methods.items()}
    condition = folders.condition
    provenance["conditions"] = "not given" if condition is None else str(condition.absolute())
    evaluation = replace(evaluation, provenance=provenance | provenance_of_run())
    return EvaluationOutcome(evaluation, fingerprint(cases))
