"""Evaluate checkpoints: translate a split of their data, calibrate on validation patients, compare."""

from collections.abc import Sequence
from dataclasses import replace

from pti.common.files import write_text_atomically
from pti.data.input_images import InputImage
from pti.evaluate.baselines import fit_baselines
from pti.evaluate.calibration_fit import calibration_text, fit_band_factors, fit_corrections
from pti.evaluate.checkpoint_predictions import CheckpointPredictions
from pti.evaluate.evaluation import (
    EvaluationInput,
    EvaluationOutcome,
    EvaluationSettings,
    evaluate_predictions,
    fingerprint,
    provenance_of_run,
)
from pti.evaluate.outlines import measure_outlines
from pti.evaluate.scores import Case, measure_cases
from pti.evaluate.set_distances import TrainingImages, with_set_comparison
from pti.inference.calibration_file import Calibration, read_calibration
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
    calibration, origin = _calibration(predictions, settings, data_range, notes)
    pairs, extractor = predictions.training_pairs(main), predictions.feature_extractor()
    encoded = {} if extractor is None else _encode(extractor, cases)
    evaluation = evaluate_predictions(
        EvaluationInput(
            cases,
            main,
            predictions.root,
            settings,
            fitted=fit_baselines(pairs, pixel_mm) if pairs else None,
            calibration=calibration,
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


def _calibration(
    predictions: CheckpointPredictions, settings: EvaluationSettings, data_range: float, notes: list[str]
) -> tuple[Calibration | None, str]:
    """Read or fit the calibration; return it, and text that says where it comes from."""
    if settings.calibration is not None:
        calibration = read_calibration(settings.calibration, predictions.samples, predictions.first.sha256)
        notes += calibration.notes()
        return calibration, calibration.origin
    if predictions.split == "val":
        return None, "none: the validation patients are the ones to calibrate on"
    cases = predictions.validation_cases()
    if not cases:
        notes.append("the intervals aren't corrected: there are no validation patients")
        return None, "none"
    calibration = _fit_calibration(predictions, cases, data_range)
    notes += calibration.notes()
    return calibration, calibration.origin


def _fit_calibration(
    predictions: CheckpointPredictions, cases: Sequence[Case], data_range: float
) -> Calibration:
    """Fit the calibration on validation patients, and write it."""
    main, first = predictions.main, predictions.first
    scores = measure_cases(cases, data_range, first.pixel_mm).methods[main]
    outlines = measure_outlines(cases, main, first.pixel_mm)
    factors = {} if outlines is None else fit_band_factors(outlines, scores.patients)
    split = f"validation split of {predictions.root}"
    calibration = Calibration(fit_corrections(scores), split, factors, scores.evenly_spread)
    text = calibration_text(scores, calibration, first.sha256)
    write_text_atomically(predictions.output_dir / "calibration.json", text)
    patients = f"{len(set(scores.patients))} patients, {len(scores.names)} slices"
    return replace(calibration, origin=f"{split} ({patients})")


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
