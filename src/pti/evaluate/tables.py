"""The tables of an evaluation as CSV; an empty cell where there is no such figure."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pti.evaluate.result import Evaluation
from pti.evaluate.scores import Scores
from pti.evaluate.summaries import Difference, columns_of
from pti.metrics.bone_agreement import LENGTHS, ratio_columns
from pti.metrics.bootstrap import Mean


def tables(
    evaluation: Evaluation, summaries: Mapping[str, Mapping[str, Mean]], compared: Sequence[Difference]
) -> dict[str, str]:
    """File name -> text.

    ``summary.csv``: means; ``differences.csv``: the main method minus each other one; ``per_patient.csv`` and
    ``per_slice.csv``: every figure of every method, worst bone height first; ``dimensions.csv``: every length
    of every prediction beside the true one; ``intervals.csv``: promised and held; ``memorization.csv``.
    """
    found = {
        "summary.csv": _text(
            {"method": method, "figure": figure, **vars(mean)}
            for method, figures in summaries.items()
            for figure, mean in figures.items()
        ),
        "differences.csv": _text(
            {"method": row.method, "minus": row.other, "figure": row.figure, **vars(row.mean)}
            | {"verdict": row.verdict}
            for row in compared
        ),
        "per_patient.csv": _text(
            row for scores in evaluation.evaluated.methods.values() for row in _per_patient(scores)
        ),
        "per_slice.csv": _text(
            row for scores in evaluation.evaluated.methods.values() for row in _per_slice(scores)
        ),
        "dimensions.csv": _text(
            row for scores in evaluation.evaluated.methods.values() for row in _dimensions(scores)
        ),
    }
    if evaluation.intervals:
        found["intervals.csv"] = _text(_intervals(evaluation))
    if evaluation.copied:
        found["memorization.csv"] = _text(_copied(evaluation))
    return found


def _per_slice(scores: Scores) -> list[dict[str, Any]]:
    columns = columns_of(scores)
    order = np.argsort(-np.nan_to_num(columns["height_abs_error_mm"], nan=np.inf), kind="stable")
    return [
        {"method": scores.method, "name": scores.names[index], "patient": scores.patients[index]}
        | {name: values[index] for name, values in columns.items()}
        for index in order
    ]


def _per_patient(scores: Scores) -> list[dict[str, Any]]:
    columns, owner = columns_of(scores), np.asarray(scores.patients, str)
    rows: list[dict[str, Any]] = []
    for patient in sorted(set(scores.patients)):
        own = owner == patient
        rows.append({"method": scores.method, "patient": patient, "slices": int(own.sum())})
        for name, values in columns.items():
            known = values[own][~np.isnan(values[own])]
            rows[-1][name] = known.mean() if known.size else np.nan
    return sorted(rows, key=lambda row: -np.nan_to_num(row["height_abs_error_mm"], nan=np.inf))


def _dimensions(scores: Scores) -> Iterator[dict[str, Any]]:
    for index, name in enumerate(scores.names):
        edge = scores.pixel_mm[index]
        for sample in range(scores.samples):
            row = {"method": scores.method, "name": name, "patient": scores.patients[index], "sample": sample}
            row["pixel_mm"] = edge
            for measure in LENGTHS:
                true, predicted = scores.true[measure][index], scores.predicted[measure][index, sample]
                row |= {f"{measure}_true_mm": true, f"{measure}_predicted_mm": predicted}
                row |= {f"{measure}_true_px": true / edge, f"{measure}_predicted_px": predicted / edge}
                row |= {f"{measure}_abs_difference_px": abs(predicted - true) / edge}
                ratios = ratio_columns(true, predicted, edge)
                row |= {f"{measure}_{column}": value for column, value in ratios.items()}
            yield row


def _intervals(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    for rows in evaluation.intervals.values():
        for row in rows:
            corrected = row.corrected_coverage
            yield {
                "method": evaluation.main,
                "measure": row.measure,
                "level": row.level,
                "coverage": row.coverage.value,
                "coverage_low": row.coverage.low,
                "coverage_high": row.coverage.high,
                "width_mm": row.width,
                "correction_mm": np.nan if row.correction is None else row.correction,
                "corrected_coverage": corrected.value if corrected else np.nan,
                "corrected_coverage_low": corrected.low if corrected else np.nan,
                "corrected_coverage_high": corrected.high if corrected else np.nan,
                "corrected_width_mm": np.nan if row.corrected_width is None else row.corrected_width,
            }


def _copied(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    for copied in evaluation.copied:
        found = copied.audit.samples
        for index in np.argsort(found.closeness, kind="stable"):
            yield {
                "space": copied.audit.space,
                "sample": copied.samples[index],
                "nearest_training_image": copied.training[int(found.index[index])],
                "distance": found.distance[index],
                "closeness": found.closeness[index],
                "flagged": int(copied.audit.flagged[index]),
            }


def _text(rows: Iterable[Mapping[str, Any]]) -> str:
    listed, text = list(rows), io.StringIO()
    header = list(dict.fromkeys(key for row in listed for key in row))
    writer = csv.DictWriter(text, header, lineterminator="\n")
    writer.writeheader()
    for row in listed:
        writer.writerow({key: _cell(value) for key, value in row.items()})
    return text.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, (float, np.floating)):
        return value
    return "" if np.isnan(value) else f"{float(value):.7g}"
