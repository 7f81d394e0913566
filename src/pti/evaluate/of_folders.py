"""Evaluate folders of predicted images against a folder of true images."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pti.data.input_images import find_images
from pti.evaluate.evaluation import (
    EvaluationInput,
    EvaluationOutcome,
    EvaluationSettings,
    evaluate_predictions,
    fingerprint,
    provenance_of_run,
)
from pti.evaluate.predictions import match_folders, method_names
from pti.inference.calibration_file import read_calibration


def evaluate_folders(
    prediction_dirs: Sequence[Path], target_dir: Path, settings: EvaluationSettings
) -> EvaluationOutcome:
    """Evaluate folders of predictions.

    Args:
        prediction_dirs: A folder for each method; the report is about the first.
        target_dir: The true images.
        settings: Settings of the evaluation.

    Raises:
        DataError: No names match, or a file can't be used.
    """
    methods, condition_dir = method_names(prediction_dirs), settings.condition_dir
    matched = match_folders(methods, target_dir, condition_dir, settings.patient_pattern)
    cases, main = matched.cases[: settings.num_samples], next(iter(methods))
    calibration, provenance, notes = None, {"truths": str(target_dir.absolute())}, list(matched.notes)
    if settings.calibration is not None:
        samples = len(cases[0].predictions[main])
        calibration = read_calibration(settings.calibration, samples)
        provenance["calibration"] = calibration.origin
        notes += calibration.notes()
    root = target_dir.absolute().parent
    given = EvaluationInput(cases, main, root, settings, calibration=calibration, notes=notes)
    evaluation = evaluate_predictions(given)
    if settings.distributions:
        # Imported here because torch takes seconds, in which worker processes measure already.
        from pti.evaluate.set_distances import TrainingImages, with_set_comparison
        from pti.inference.devices import choose_devices

        training = None
        if settings.training_dir is not None:
            training = TrainingImages.of_images(find_images(settings.training_dir, settings.patient_pattern))
        evaluation = with_set_comparison(evaluation, choose_devices("auto", 1)[0], training)
    provenance |= {f"predictions, {name}": str(folder.absolute()) for name, folder in methods.items()}
    provenance["conditions"] = "not given" if condition_dir is None else str(condition_dir.absolute())
    evaluation = replace(evaluation, provenance=provenance | provenance_of_run())
    return EvaluationOutcome(evaluation, fingerprint(cases))
