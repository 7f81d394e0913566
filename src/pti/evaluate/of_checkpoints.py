"""What `evaluate` does with checkpoints: translate a side of their data, then judge it like any folder."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from pti.common.files import write_text_atomically
from pti.data.layouts import Pair
from pti.evaluate.baselines import UNCHANGED, fit_baselines
from pti.evaluate.checkpoint_predictions import CheckpointPredictions, open_study, seen_in_training
from pti.evaluate.of_folders import (
    EvaluationInput,
    EvaluationOutcome,
    evaluate_predictions,
    fingerprint,
    law_of,
    origin_of_run,
)
from pti.evaluate.result import Evaluation
from pti.evaluate.scores import Case
from pti.evaluate.set_distances import (
    TrainingImages,
    audit_latents,
    audit_pixels,
    autoencoder_distances,
    lite0_distances,
)
from pti.inference.calibration_file import (
    Corrections,
    calibration_text,
    fit_corrections,
    missing_calibration,
    read_calibration,
)
from pti.inference.features import EncodedImages, FeatureExtractor
from pti.metrics.distribution import note_on_units
from pti.runs.summary import hash_file


def evaluate_checkpoints(cfg: DictConfig, paths: Sequence[Path], output_dir: Path) -> EvaluationOutcome:
    """Translate, calibrate on validation patients, judge; the report is about the first checkpoint.

    Args:
        cfg: ``conf/evaluate.yaml``, composed.
        paths: the checkpoints.
        output_dir: of the command; the translations go into ``translations`` below it.
    """
    study = open_study(cfg, paths, output_dir)
    cases, notes = study.cases(study.split, list(study.translators))
    data_range = cfg.data_range or study.data_range(cases)
    pairs, probe = study.training_pairs(), study.probe()
    notes += [
        f"{count} of the patients stand on the training side of {method}: its figures are too good"
        for method, translator in study.translators.items()
        if (count := seen_in_training(cases, translator))
    ]
    corrections, origin = _corrections(cfg, study, data_range, output_dir, notes)
    probed = {} if probe is None else _probed(probe, cases)
    pixel_mm = cfg.pixel_mm or study.first.pixel_mm
    material = EvaluationInput(
        cases,
        study.main,
        data_range,
        pixel_mm,
        fitted=fit_baselines(pairs, pixel_mm) if pairs else None,
        law=law_of(Path(study.data["root"]), cases),
        corrections=corrections,
        autoencoder={side: found.height_change_mm for side, found in probed.items()},
        seed=cfg.seed,
        notes=notes,
    )
    evaluation = evaluate_predictions(material)
    if cfg.distributions:
        evaluation = _with_sets(evaluation, study, pairs, probe, probed)
    root = Path(study.data["root"]).absolute()
    provenance = {"data": f"{study.split} side of {root}", "calibration": origin}
    provenance |= {
        f"checkpoint, {method}": f"{translator.path}, SHA-256 {hash_file(translator.path)[:16]}…"
        for method, translator in study.translators.items()
    }
    provenance["sampling"] = ", ".join(
        f"{key} {value}" for key, value in study.resolved_sampling().items() if value is not None
    )
    evaluation = replace(evaluation, provenance=provenance | origin_of_run())
    return EvaluationOutcome(evaluation, fingerprint(cases), study.first.path)


def _corrections(
    cfg: DictConfig, study: CheckpointPredictions, data_range: float, output_dir: Path, notes: list[str]
) -> tuple[Corrections | None, str]:
    """The corrections of the intervals and where they come from; writes ``calibration.json``."""
    if cfg.calibration is not None:
        count = 1 if study.first.module.deterministic else study.sampling.samples
        found, origin = read_calibration(Path(str(cfg.calibration)), count, hash_file(study.first.path))
        notes += missing_calibration(found, origin)
        return found, origin
    if study.split == "val":
        return None, "none: validation patients are what others are calibrated on"
    scores = study.validation_scores(data_range)
    if scores is None:
        notes.append("there are no validation patients: the intervals aren't corrected")
        return None, "none"
    found = fit_corrections(scores)
    origin = f"validation side of {Path(study.data['root']).absolute()}"
    text = calibration_text(scores, found, origin, hash_file(study.first.path))
    write_text_atomically(output_dir / "calibration.json", text)
    origin = f"{origin} ({len(set(scores.patients))} patients, {len(scores.names)} slices)"
    notes += missing_calibration(found, origin)
    return found, origin


def _probed(probe: FeatureExtractor, cases: Sequence[Case]) -> dict[str, EncodedImages]:
    """``target`` and ``condition``: what the autoencoder makes of the slices' own images."""
    conditions = [case.condition for case in cases if case.condition is not None]
    return {
        "target": probe([case.target for case in cases], "true images", heights=True),
        "condition": probe(conditions, "conditions", heights=True),
    }


def _with_sets(
    evaluation: Evaluation,
    study: CheckpointPredictions,
    pairs: Sequence[Pair],
    probe: FeatureExtractor | None,
    probed: Mapping[str, EncodedImages],
) -> Evaluation:
    """The same with KID and FID, and the memorisation audit."""
    evaluated, main, notes = evaluation.evaluated, evaluation.main, list(evaluation.notes)
    distances, copied = lite0_distances(evaluated, study.devices[0]), []
    notes += filter(None, [note_on_units([case.patient for case in evaluated.cases])])
    if distances and probe is not None:
        known = {UNCHANGED: probed["condition"]}
        distances += autoencoder_distances(evaluated, probe, probed["target"], known)
    training = training_images(pairs)
    if len(set(training.patients)) < 2 or study.split == "train":
        notes.append("the memorisation audit needs the training images, and slices that aren't among them")
    else:
        copied.append(audit_pixels(evaluated.cases, main, training))
        if probe is not None:
            copied.append(audit_latents(evaluated.cases, main, training, probe, probed["target"]))
    return replace(evaluation, distances=distances, copied=copied, notes=notes)


def training_images(pairs: Sequence[Pair]) -> TrainingImages:
    """The targets among training pairs."""
    files = [pair.target for pair in pairs if pair.target is not None]
    return TrainingImages([pair.name for pair in pairs], files, [pair.patient for pair in pairs])
