"""Evaluate checkpoints: translate a split of their data, calibrate on validation patients, compare."""

from collections.abc import Sequence
from dataclasses import replace

from pti.common.files import write_text_atomically
from pti.data.input_images import InputImage
from pti.evaluate.baselines import fit_baselines
from pti.evaluate.calibration_fit import calibration_text, fit_corrections
from pti.evaluate.checkpoint_predictions import CheckpointPredictions
from pti.evaluate.evaluation import (
    EvaluationInput,
    EvaluationOutcome,
    EvaluationSettings,
    evaluate_predictions,
    fingerprint,
    provenance_of_run,
)
from pti.evaluate.scores import Case
from pti.evaluate.set_distances import TrainingImages, with_set_comparison
from pti.inference.calibration_file import Corrections, missing_calibration, read_calibration
from pti.inference.features import EncodedImages, FeatureExtractor


def evaluate_checkpoints(
    predictions: CheckpointPredictions, settings: EvaluationSettings
) -> EvaluationOutcome:
    """Evaluate the checkpoints; the report is about the first.

    Writes the translations into ``translations`` below the output folder of the predictions, and
    ``calibration.json`` beside it.
    """
    main = predictions.main
    cases, notes = predictions.cases(predictions.split, list(predictions.predictors))
    data_range = settings.data_range or predictions.data_range(cases)
    pixel_mm = settings.pixel_mm or predictions.first.pixel_mm
    size = predictions.first.data["image_size"]
    settings = replace(settings, data_range=data_range, pixel_mm=pixel_mm, region_size=size)
    for method in predictions.predictors:
        if count := predictions.patients_seen_in_training(method, cases):
            notes.append(f"{method} was trained on {count} of the patients: its results are too optimistic")
    corrections, origin = _corrections(predictions, settings, data_range, notes)
    pairs, extractor = predictions.training_pairs(main), predictions.feature_extractor()
    encoded = {} if extractor is None else _encode(extractor, cases)
    evaluation = evaluate_predictions(
        EvaluationInput(
            cases,
            main,
            predictions.root,
            settings,
            fitted=fit_baselines(pairs, pixel_mm) if pairs else None,
            corrections=corrections,
            autoencoder={role: images.height_change_mm for role, images in encoded.items()},
            notes=notes,
        )
    )
    if settings.distributions and main in cases[0].predictions:
        targets = [InputImage(pair.name, pair.files["target"], pair.patient) for pair in pairs]
        training = TrainingImages.of_images([] if predictions.split == "train" else targets)
        evaluation = with_set_comparison(evaluation, predictions.devices[0], training, extractor, encoded)
    provenance = _provenance(predictions) | {"calibration": origin} | provenance_of_run()
    evaluation = replace(evaluation, provenance=provenance)
    return EvaluationOutcome(evaluation, fingerprint(cases), predictions.first.checkpoint)


def _corrections(
    predictions: CheckpointPredictions, settings: EvaluationSettings, data_range: float, notes: list[str]
) -> tuple[Corrections | None, str]:
    """Read or fit the corrections of the intervals; return them, and text that says where they come from."""
    first = predictions.first
    if settings.calibration is not None:
        corrections, origin = read_calibration(settings.calibration, predictions.samples, first.sha256)
        notes += missing_calibration(corrections, origin)
        return corrections, origin
    if predictions.split == "val":
        return None, "none: the validation patients are the ones to calibrate on"
    scores = predictions.validation_scores(data_range)
    if scores is None:
        notes.append("the intervals aren't corrected: there are no validation patients")
        return None, "none"
    corrections, origin = fit_corrections(scores), f"validation split of {predictions.root}"
    text = calibration_text(scores, corrections, origin, first.sha256)
    write_text_atomically(predictions.output_dir / "calibration.json", text)
    origin = f"{origin} ({len(set(scores.patients))} patients, {len(scores.names)} slices)"
    notes += missing_calibration(corrections, origin)
    return corrections, origin


def _encode(extractor: FeatureExtractor, cases: Sequence[Case]) -> dict[str, EncodedImages]:
    """Encode the slices' true images and conditions with the autoencoder."""
    conditions = [case.condition for case in cases if case.condition is not None]
    return {
        "target": extractor([case.target for case in cases], "true images", heights=True),
        "condition": extractor(conditions, "conditions", heights=True),
    }


def _provenance(predictions: CheckpointPredictions) -> dict[str, str]:
    sampling = predictions.resolved_sampling().items()
    provenance = {"data": f"{predictions.split} split of {predictions.root}"}
    provenance |= {
        f"checkpoint, {method}": f"{predictor.path}, SHA-256 {predictor.sha256[:16]}…"
        for method, predictor in predictions.predictors.items()
    }
    return provenance | {
        "sampling": ", ".join(f"{key} {value}" for key, value in sampling if value is not None)
    }
