"""Evaluate matched predictions: metrics, baselines, interval coverage and the error budget of the height."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pti.data.input_images import InputImage
from pti.data.layouts import PATIENT_PATTERN
from pti.evaluate.baselines import FittedBaselines, image_baselines, with_size_baselines
from pti.evaluate.intensities import intensity_notes, survey_targets
from pti.evaluate.known_heights import read_height_distribution
from pti.evaluate.outlines import measure_outlines
from pti.evaluate.result import Evaluation
from pti.evaluate.scores import Case, Scores, measure_cases
from pti.inference.calibration_file import MEASURES, Calibration, Corrections
from pti.inference.survey import Survey
from pti.metrics.calibration import IntervalCoverage, interval_coverage
from pti.metrics.error_budget import error_budget
from pti.metrics.outline_band import BandCoverage, band_coverage
from pti.runs.arguments import typed_arguments
from pti.runs.summary import hash_config, package_versions

if TYPE_CHECKING:
    from pti.runs.checkpoint import Checkpoint

PIXEL_MM = 0.15


@dataclass(frozen=True)
class EvaluationSettings:
    """Settings of an evaluation of folders or checkpoints.

    Attributes:
        num_samples: Evaluate only the first slices by name; None = all.
        pixel_mm: Edge of a pixel in mm, for files without a resolution; None = the checkpoint's, or 0.15.
        data_range: Data range of the set, raw units; None = the checkpoint's, or from the targets.
        distributions: Also compare the images as sets, and audit memorization.
        calibration: A ``calibration.json``; None = fit one on validation patients, if there are any.
        seed: Seed of the bootstrap.
        condition_dir: Folder of the images that the predicted ones were made from; None = unknown.
        training_dir: Folder of the true images that a model was trained on; None = unknown.
        patient_pattern: Regular expression for a name in the folders, with a group ``patient``.
        region_size: Edge of the square that the first checkpoint's networks see, pixels, at which changed and
            unchanged regions are compared; None = unknown: the images' own size.
    """

    num_samples: int | None = None
    pixel_mm: float | None = None
    data_range: float | None = None
    distributions: bool = True
    calibration: Path | None = None
    seed: int = 0
    condition_dir: Path | None = None
    training_dir: Path | None = None
    patient_pattern: str = PATIENT_PATTERN
    region_size: int | None = None


@dataclass(frozen=True)
class EvaluationInput:
    """Predictions to evaluate, and what is known about them.

    Attributes:
        cases: The slices with their predictions.
        main: The method that the report is about.
        data_root: Folder in which a phantom has its ``truth.csv``.
        settings: Settings of the evaluation; a data range of None is taken from the targets.
        fitted: Fit of the baselines on training pairs; None = fit on the other patients of the set.
        calibration: Calibration of the intervals and of the band; None = unknown.
        autoencoder: ``target``, ``condition`` -> (N,) mm, see `pti.metrics.error_budget.error_budget`.
        notes: Notes for the reader so far.
    """

    cases: Sequence[Case]
    main: str
    data_root: Path
    settings: EvaluationSettings
    fitted: FittedBaselines | None = None
    calibration: Calibration | None = None
    autoencoder: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class EvaluationOutcome:
    """An evaluation, with the data fingerprint and the checkpoint for the summary."""

    evaluation: Evaluation
    fingerprint: str
    checkpoint: "Checkpoint | None" = None


def evaluate_predictions(given: EvaluationInput) -> Evaluation:
    """Measure the predictions and the baselines; compute interval coverage and the error budget.

    Raises:
        DataError: A file can't be used, a prediction's size differs from its target's, or all targets are
            blank.
    """
    notes, settings = list(given.notes), given.settings
    baselines = image_baselines(given.cases, given.fitted, notes)
    targets = survey_targets(target_images(given.cases))
    notes += intensity_notes(targets, given.cases)
    data_range = settings.data_range or data_range_of(targets)
    pixel_mm = settings.pixel_mm or PIXEL_MM
    notes += targets.pixel_size_notes(pixel_mm, "pixel_mm")
    measurements = measure_cases(given.cases, data_range, pixel_mm, baselines, settings.region_size)
    if measurements.changed_share is None:
        notes.append("changed and unchanged regions are left out: they need the conditions")
    measurements = with_size_baselines(measurements, given.fitted)
    scores = measurements.methods[given.main]
    measurements = replace(measurements, methods={given.main: scores} | dict(measurements.methods))
    heights = read_height_distribution(given.data_root / "truth.csv", scores.names)
    budget = ()
    if heights is not None or given.autoencoder:
        budget = error_budget(scores.error("height"), given.autoencoder, heights)
    intervals = _intervals(scores, given.calibration and given.calibration.corrections)
    bands = _bands(given, pixel_mm, notes)
    return Evaluation(
        measurements, given.main, intervals, budget, heights, bands=bands, notes=notes, seed=settings.seed
    )


def _intervals(scores: Scores, corrections: Corrections | None) -> dict[str, list[IntervalCoverage]]:
    if scores.samples < 2 and corrections is None:
        return {}
    return {
        measure: interval_coverage(
            measure,
            scores.predicted[measure],
            scores.true[measure],
            scores.patients,
            None if corrections is None else corrections.get(measure),
            scores.evenly_spread,
        )
        for measure in MEASURES
    }


def _bands(given: EvaluationInput, pixel_mm: float, notes: list[str]) -> list[BandCoverage]:
    """Return the coverage of the outline's band at each level; empty without a calibration of it."""
    if given.calibration is None or not given.calibration.band_factors:
        return []
    outlines = measure_outlines(given.cases, given.main, pixel_mm)
    if outlines is None:
        notes.append("the band of the outline is left out: it needs the conditions")
        return []
    patients = [case.patient for case in given.cases]
    return band_coverage(outlines, patients, given.calibration.band_factors)


def data_range_of(targets: Survey) -> float:
    """Return the range from 0, or darker tissue, to the top of the targets' tissue (99.5 %), raw units."""
    low, high = targets.tissue_range
    return high - min(low, 0.0)


def target_images(cases: Sequence[Case]) -> list[InputImage]:
    """Return the true images of the cases."""
    return [InputImage(case.name, case.target, case.patient) for case in cases]


def fingerprint(cases: Sequence[Case]) -> str:
    """Hash the paths, sizes and times of the compared files."""
    files = [file for case in cases for file in (case.target, *chain(*case.predictions.values()))]
    states = {str(file): [file.stat().st_size, file.stat().st_mtime_ns] for file in files}
    return hash_config(states)[:16]


def provenance_of_run() -> dict[str, str]:
    """Return the command line, and the versions of the packages that determine results."""
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    return {"command": " ".join(["python -m pti.evaluate", *typed_arguments()]), "versions": versions}
