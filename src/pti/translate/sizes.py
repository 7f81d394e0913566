"""Translate with a model that predicts sizes alone: a table of sizes with their intervals, no images."""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pti.common.path_settings import setting
from pti.common.tables import write_csv
from pti.drawing.height_text import height_text
from pti.inference.bone_sizes import bone_sizes
from pti.inference.calibration_file import Corrections
from pti.inference.following import data_arguments
from pti.inference.inputs import Inputs
from pti.inference.loaded import LoadedSizePredictor
from pti.inference.reconstructions import training_bounds
from pti.inference.size_prediction import PredictedSizes, predict_sizes
from pti.inference.survey import print_warnings, survey
from pti.inference.tables import Rows, count_images, mean
from pti.metrics.calibration import central_interval, covers
from pti.runs.arguments import typed_arguments
from pti.runs.manifest import Manifest
from pti.runs.summary import from_here, hash_config, print_summary, write_summary

TABLE = "sizes.csv"
LEVEL = 0.9
"""Level of the model's own intervals, without a calibration."""

_MAX_LINES = 20  # images listed in the terminal


def translate_sizes(
    predictor: LoadedSizePredictor,
    inputs: Inputs,
    output_dir: Path,
    batch_size: int,
    device: torch.device,
    corrections: Corrections,
    origin: str | None,
) -> None:
    """Write ``sizes.csv`` and ``summary.json``; print the height of each image and the means.

    Args:
        predictor: The model.
        inputs: The images.
        output_dir: A folder for this work alone; created if missing.
        batch_size: Images at a time.
        device: The device to compute on.
        corrections: Corrections of the intervals; empty = the model's own 90 % intervals.
        origin: Where they come from; None = there are none.

    Raises:
        UsageError: The folder holds something else.
        DataError: Some images can't be used; the message names all of them.
    """
    settings = {"command": "translate", "checkpoint": predictor.sha256, "images": inputs.origin}
    with Manifest(output_dir, settings, (TABLE,)):
        surveyed = survey(inputs.images)
        warnings = surveyed.warnings(training_bounds(predictor.module.normalization))
        print_warnings(warnings)
        predicted = predict_sizes(predictor, inputs.images, batch_size, device)
        rows = _rows(inputs, predicted, corrections, predictor.pixel_mm)
        write_csv(output_dir / TABLE, None, rows, digits=7)
    metrics = count_images(rows) | _metrics(rows, list(predicted.quantiles))
    metrics["intervals"] = origin or f"the model's own {LEVEL:.0%} intervals, not calibrated"
    artefacts = {"sizes": output_dir / TABLE}
    files = [image.path.stat() for image in inputs.images]
    write_summary(
        output_dir,
        command="translate",
        metrics=metrics,
        artefacts=artefacts,
        data_fingerprint=hash_config({"images": [[file.st_size, file.st_mtime_ns] for file in files]})[:16],
        checkpoint=predictor.checkpoint,
        warnings=warnings,
    )
    for row in rows[:_MAX_LINES]:
        interval = (row["interval_level"], row["height_low_mm"], row["height_high_mm"])
        print(f"{row['name']}: height {height_text(row['height_mm'], (), interval)}")
    if len(rows) > _MAX_LINES:
        print(f"… and {len(rows) - _MAX_LINES} more in {TABLE}")
    data = data_arguments(predictor.data, typed_arguments())
    following = f"python -m pti.evaluate {setting('ckpt', from_here(predictor.checkpoint.path))}{data}"
    print_summary("Predicted sizes (means over the images)", metrics, artefacts, following)


def _rows(
    inputs: Inputs, predicted: PredictedSizes, corrections: Corrections, pixel_mm: float
) -> list[dict[str, Any]]:
    """Return a row for each image: medians, intervals and, where the target is known, true sizes.

    All intervals have the highest level at which the height has a finite correction.
    """
    known = [image.name for image in inputs.images if image.name in inputs.targets]
    true = bone_sizes([inputs.targets[name] for name in known], pixel_mm)
    level = max((level for level, mm in corrections.get("height", {}).items() if isfinite(mm)), default=LEVEL)
    rows: list[dict[str, Any]] = [
        {"name": image.name, "patient": image.patient, "pixel_mm": mm, "interval_level": level}
        for image, mm in zip(inputs.images, predicted.pixel_mm, strict=True)
    ]
    for measure, quantiles in predicted.quantiles.items():
        correction = corrections.get(measure, {}).get(level, 0.0)
        low, high = central_interval(quantiles, level, correction if isfinite(correction) else 0.0)
        columns = {"": np.median(quantiles, axis=1), "low": low.clip(0), "high": high}
        measured = dict(zip(known, true.get(measure, ()), strict=True))
        for index, row in enumerate(rows):
            row |= {_column(measure, what): values[index] for what, values in columns.items()}
            if row["name"] in measured:
                row[_column(measure, "true")] = measured[row["name"]]
    return rows


def _metrics(rows: Rows, measures: Sequence[str]) -> dict[str, Any]:
    """Average the sizes and, where targets are known, their absolute errors; count the covered heights."""
    metrics: dict[str, Any] = {key: mean(rows, key) for key in map(_column, measures)}
    known = [row for row in rows if isfinite(row.get("height_true_mm", np.nan))]
    if not known:
        return metrics
    for measure in measures:
        errors = [{"error": abs(row[_column(measure)] - row[_column(measure, "true")])} for row in known]
        metrics[_column(measure, "error")] = mean(errors, "error")
    low, high, true = (
        np.array([row[f"height_{end}_mm"] for row in known]) for end in ("low", "high", "true")
    )
    metrics["height_interval_width_mm"] = float((high - low).mean())
    return metrics | {"height_interval_holds": float(covers(low, high, true).mean())}


def _column(measure: str, what: str = "") -> str:
    """Return a column's name: ``height_mm``, ``area_low_mm2``."""
    return "_".join(filter(None, (measure, what, "mm2" if measure == "area" else "mm")))
