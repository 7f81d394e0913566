"""What `evaluate` does with checkpoints: translate a side of their data, then judge it like any folder."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from pti.checkpoint_study import Study, open_study, seen_in_training
from pti.data.layouts import Pair
from pti.evaluation import Material, Outcome, fingerprint, judge, law_of, origin_of_run
from pti.metrics.baselines import Training
from pti.metrics.calibration import LEVELS
from pti.metrics.scores import sizes_of
from pti.modules.image_probe import Probe, Probed
from pti.modules.set_comparison import (
    TrainingImages,
    audit_latents,
    audit_pixels,
    autoencoder_distances,
    lite0_distances,
)
from pti.report.calibration_file import Corrections, calibration_text, fit_corrections, read_calibration
from pti.report.evaluation import Evaluation
from pti.summary import hash_file, write_text_atomically


def evaluate_checkpoints(cfg: DictConfig, paths: Sequence[Path], output_dir: Path) -> Outcome:
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
    autoencoder, targets = {}, None
    if probe is not None:
        targets = probe([case.target for case in cases], "true images", heights=True)
        conditions = [case.condition for case in cases if case.condition is not None]
        probed = probe(conditions, "conditions", heights=True)
        autoencoder = {"target": targets.height_change_mm, "condition": probed.height_change_mm}
    pixel_mm = cfg.pixel_mm or study.first.pixel_mm
    material = Material(
        cases,
        study.main,
        data_range,
        pixel_mm,
        training=training_sizes(pairs, pixel_mm) if pairs else None,
        law=law_of(Path(study.data["root"]), cases),
        corrections=corrections,
        autoencoder=autoencoder,
        seed=cfg.seed,
        notes=notes,
    )
    evaluation = judge(material)
    if cfg.distributions:
        evaluation = _with_sets(evaluation, study, pairs, probe, targets)
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
    return Outcome(evaluation, fingerprint(cases), study.first.path)


def _corrections(
    cfg: DictConfig, study: Study, data_range: float, output_dir: Path, notes: list[str]
) -> tuple[Corrections | None, str]:
    """The corrections of the intervals and where they come from; writes ``calibration.json``."""
    if cfg.calibration is not None:
        count = 1 if study.first.module.deterministic else study.sampling.samples
        return read_calibration(Path(str(cfg.calibration)), count)
    if study.split == "val":
        return None, "none: validation patients are what others are calibrated on"
    scores = study.validation_scores(data_range)
    if scores is None:
        notes.append("there are no validation patients: the intervals aren't corrected")
        return None, "none"
    found = fit_corrections(scores)
    patients = len(set(scores.patients))
    if not all(math.isfinite(value) for levels in found.values() for value in levels.values()):
        needed = math.ceil(max(LEVELS) / (1 - max(LEVELS)) - 1e-9)
        notes.append(
            f"{patients} validation patients can't vouch for a {max(LEVELS):.0%} interval, {needed} can: its "
            "correction is infinite"
        )
    origin = f"validation side of {Path(study.data['root']).absolute()}"
    write_text_atomically(output_dir / "calibration.json", calibration_text(scores, found, origin))
    return found, f"{patients} patients, {len(scores.names)} slices of the {origin}"


def _with_sets(
    evaluation: Evaluation, study: Study, pairs: Sequence[Pair], probe: Probe | None, targets: Probed | None
) -> Evaluation:
    """The same with KID and FID, and the memorisation audit."""
    cases, main, device = evaluation.evaluated.cases, study.main, study.devices[0]
    distances = [lite0_distances(cases, main, evaluation.evaluated.data_range, device)]
    copied, notes = [], list(evaluation.notes)
    if probe is not None and targets is not None:
        predicted = probe([case.predictions[main][0] for case in cases], "predictions")
        distances.append(autoencoder_distances(cases, predicted, targets))
    training = training_images(pairs)
    if len(set(training.patients)) < 2 or study.split == "train":
        notes.append("the memorisation audit needs the training images, and slices that aren't among them")
    else:
        copied.append(audit_pixels(cases, main, training))
        if probe is not None and targets is not None:
            copied.append(audit_latents(cases, main, training, probe, targets))
    known = [found for found in distances if found is not None]
    return replace(evaluation, distances=known, copied=copied, notes=notes)


def training_sizes(pairs: Sequence[Pair], pixel_mm: float) -> Training:
    """The sizes that baselines are fitted on."""
    conditions, targets = (
        sizes_of([getattr(pair, side) for pair in pairs], pixel_mm) for side in ("condition", "target")
    )
    return Training(conditions, targets)


def training_images(pairs: Sequence[Pair]) -> TrainingImages:
    """The targets among training pairs."""
    files = [pair.target for pair in pairs if pair.target is not None]
    return TrainingImages([pair.name for pair in pairs], files, [pair.patient for pair in pairs])
