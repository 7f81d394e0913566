"""What `evaluate` does with folders, and what it does with any predictions once they lie in folders."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from pti.data.input_images import InputImage, find_images, survey
from pti.evaluate.baselines import Fitted, image_baselines, with_size_baselines
from pti.evaluate.known_heights import read_law
from pti.evaluate.predictions import match_folders, method_names
from pti.evaluate.result import Evaluation
from pti.evaluate.scores import Case, Scores, evaluate_cases
from pti.inference.calibration_file import MEASURES, Corrections, missing_calibration, read_calibration
from pti.metrics.calibration import check_intervals
from pti.metrics.distribution import note_on_units
from pti.metrics.error_budget import HeightDistribution, error_budget
from pti.runs.manifest import Manifest
from pti.runs.summary import hash_config, package_versions

PIXEL_MM = 0.15


@dataclass(frozen=True)
class EvaluationInput:
    """What is to be judged, and what is known beside it.

    Attributes:
        cases: the slices with their predictions.
        main: the method that the report is about.
        data_range: of the set, raw units; None = from the targets.
        pixel_mm: edge of a pixel in mm, for files that don't say.
        fitted: the baselines, on training pairs; None = on the other patients of the set, in turn.
        law: of the heights, where it is known.
        corrections: of the intervals; None = there are none.
        autoencoder: ``target``, ``condition`` -> (N,) mm, see `pti.metrics.error_budget.error_budget`.
        seed: of the bootstrap.
        notes: what the reader must know already.
    """

    cases: Sequence[Case]
    main: str
    data_range: float | None = None
    pixel_mm: float = PIXEL_MM
    fitted: Fitted | None = None
    law: HeightDistribution | None = None
    corrections: Corrections | None = None
    autoencoder: Mapping[str, np.ndarray] = field(default_factory=dict)
    seed: int = 0
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class EvaluationOutcome:
    """An evaluation, and what the summary tells beside it."""

    evaluation: Evaluation
    fingerprint: str
    checkpoint: Path | None = None


@contextmanager
def guarded(output_dir: Path, settings: Mapping[str, Any]) -> Iterator[None]:
    """Refuse a folder that holds something else, or another evaluation.

    Raises:
        UsageError: it does.
    """
    with Manifest(output_dir, settings, ("report.html", "summary.csv", "per_slice.csv")):
        yield


def evaluate_folders(cfg: Any, prediction_dirs: Sequence[Path]) -> EvaluationOutcome:
    """Evaluate folders of predictions.

    Args:
        cfg: ``conf/evaluate.yaml``, composed.
        prediction_dirs: the folders; the report is about the first.

    Raises:
        DataError: nothing fits together, or a file can't be used.
    """
    target_dir, condition_dir, training_dir = (
        None if cfg[key] is None else Path(str(cfg[key])).expanduser()
        for key in ("target_dir", "condition_dir", "training_dir")
    )
    assert target_dir is not None
    methods = method_names(prediction_dirs)
    matched = match_folders(methods, target_dir, condition_dir, cfg.patient_pattern)
    cases, main = matched.cases[: cfg.num_samples], next(iter(methods))
    corrections, provenance, notes = None, {"truths": str(target_dir.absolute())}, list(matched.notes)
    if cfg.calibration is not None:
        count = len(cases[0].predictions[main])
        corrections, provenance["calibration"] = read_calibration(Path(str(cfg.calibration)), count)
        notes += missing_calibration(corrections, provenance["calibration"])
    evaluation = evaluate_predictions(
        EvaluationInput(
            cases,
            main,
            cfg.data_range,
            cfg.pixel_mm or PIXEL_MM,
            law=law_of(target_dir.absolute().parent, cases),
            corrections=corrections,
            seed=cfg.seed,
            notes=notes,
        )
    )
    if cfg.distributions:
        evaluation = _with_sets(evaluation, training_dir, cfg.patient_pattern)
    provenance |= {f"predictions, {name}": str(folder.absolute()) for name, folder in methods.items()}
    provenance["conditions"] = "not given" if condition_dir is None else str(condition_dir.absolute())
    return EvaluationOutcome(replace(evaluation, provenance=provenance | origin_of_run()), fingerprint(cases))


def _with_sets(evaluation: Evaluation, training_dir: Path | None, patient_pattern: str) -> Evaluation:
    """The same with KID and FID, and the audit against the images of a folder."""
    from pti.evaluate.set_distances import TrainingImages, audit_pixels, lite0_distances
    from pti.inference.devices import choose_devices

    evaluated, notes = evaluation.evaluated, list(evaluation.notes)
    distances = lite0_distances(evaluated, choose_devices("auto", 1)[0])
    notes += filter(None, [note_on_units([case.patient for case in evaluated.cases])])
    copied = []
    if training_dir is not None:
        images = find_images(training_dir, patient_pattern)
        training = TrainingImages(
            [image.name for image in images],
            [image.path for image in images],
            [image.patient or image.name for image in images],
        )
        copied = [audit_pixels(evaluated.cases, evaluation.main, training)]
    return replace(evaluation, distances=distances, copied=copied, notes=notes)


def evaluate_predictions(material: EvaluationInput) -> Evaluation:
    """Measure the predictions, the baselines beside them, intervals and the budget of the height's error.

    Raises:
        DataError: a file can't be used, or a prediction's size differs from its truth's.
    """
    notes = list(material.notes)
    data_range = material.data_range or data_range_of(material.cases)
    baselines = image_baselines(material.cases, material.fitted, notes)
    evaluated = evaluate_cases(material.cases, data_range, material.pixel_mm, baselines)
    evaluated = with_size_baselines(evaluated, material.fitted)
    scores = evaluated.methods[material.main]
    intervals = _intervals(scores, material.corrections)
    budget = ()
    if material.law is not None or material.autoencoder:
        budget = error_budget(scores.error("height"), material.autoencoder, material.law)
    return Evaluation(
        evaluated, material.main, intervals, budget, material.law, notes=notes, seed=material.seed
    )


def _intervals(scores: Scores, corrections: Corrections | None) -> dict[str, Any]:
    if scores.samples < 2 and corrections is None:
        return {}
    return {
        measure: check_intervals(
            measure,
            scores.predicted[measure],
            scores.true[measure],
            scores.patients,
            None if corrections is None else corrections.get(measure),
        )
        for measure in MEASURES
    }


def law_of(root: Path, cases: Sequence[Case]) -> HeightDistribution | None:
    """The phantom's law of the heights, where a ``truth.csv`` beside the folders tells it for all slices."""
    return read_law(root / "truth.csv", [case.name for case in cases])


def data_range_of(cases: Sequence[Case]) -> float:
    """From 0, or the darkest tissue below it, to the top of the targets' tissue (99.5 %), raw units."""
    low, high = survey([InputImage(case.name, case.target, case.patient) for case in cases]).tissue
    return high - min(low, 0.0)


def fingerprint(cases: Sequence[Case]) -> str:
    """Of the files that were compared: their paths, sizes and times."""
    files = [file for case in cases for file in (case.target, *chain(*case.predictions.values()))]
    states = {str(file): [file.stat().st_size, file.stat().st_mtime_ns] for file in files}
    return hash_config(states)[:16]


def origin_of_run() -> dict[str, str]:
    """The command line and the versions of what decides about results."""
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    return {"command": " ".join(["python -m pti.evaluate", *sys.argv[1:]]), "versions": versions}
