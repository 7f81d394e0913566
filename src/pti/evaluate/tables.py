"""CSV tables of an evaluation; missing values are empty cells."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pti.common.tables import csv_text
from pti.evaluate.result import Evaluation
from pti.evaluate.scores import Scores
from pti.evaluate.summaries import Difference, columns_of
from pti.metrics.bone_agreement import LENGTHS, ratio_columns
from pti.metrics.bootstrap import Mean


def tables(
    evaluation: Evaluation,
    summaries: Mapping[str, Mapping[str, Mean]],
    differences: Sequence[Difference],
) -> dict[str, str]:
    """Return file name -> text.

    ``summary.csv``: means; ``differences.csv``: the main method minus each other one; ``per_patient.csv`` and
    ``per_slice.csv``: all values of every method, worst bone height first; ``dimensions.csv``: every length
    of every prediction beside the true one; ``intervals.csv``: nominal and actual coverage;
    ``memorization.csv``: nearest training images.
    """
    methods = evaluation.measurements.methods.values()
    rows: dict[str, Iterable[dict[str, Any]]] = {
        "summary.csv": (
            {"method": method, "figure": metric, **vars(mean)}
            for method, metrics in summaries.items()
            for metric, mean in metrics.items()
        ),
        "differences.csv": (
            {"method": row.method, "minus": row.other, "figure": row.metric, **vars(row.mean)}
            | {"verdict": row.verdict}
            for row in differences
        ),
        "per_patient.csv": (row for scores in methods for row in _per_patient(scores)),
        "per_slice.csv": (row for scores in methods for row in _per_slice(scores)),
        "dimensions.csv": (row for scores in methods for row in _dimensions(scores)),
        "intervals.csv": _intervals(evaluation),
        "memorization.csv": _memorization(evaluation),
    }
    listed = {name: list(table) for name, table in rows.items()}
    required = ("summary.csv", "differences.csv", "per_patient.csv", "per_slice.csv", "dimensions.csv")
    return {
        name: csv_text(None, table, digits=7) for name, table in listed.items() if table or name in required
    }


def _per_slice(scores: Scores) -> list[dict[str, Any]]:
    columns = columns_of(scores)
    rows = [
        {"method": scores.method, "name": name, "patient": scores.patients[index]}
        | {column: values[index] for column, values in columns.items()}
        for index, name in enumerate(scores.names)
    ]
    return _worst_first(rows)


def _per_patient(scores: Scores) -> list[dict[str, Any]]:
    columns, owner = columns_of(scores), np.asarray(scores.patients, str)
    rows: list[dict[str, Any]] = []
    for patient in sorted(set(scores.patients)):
        own = owner == patient
        rows.append({"method": scores.method, "patient": patient, "slices": int(own.sum())})
        for name, values in columns.items():
            known = values[own][~np.isnan(values[own])]
            rows[-1][name] = known.mean() if known.size else np.nan
    return _worst_first(rows)


def _worst_first(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
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
            table_row = {"method": evaluation.main, "measure": row.measure, "level": row.level}
            table_row |= _ends("coverage", row.coverage)
            table_row |= {"width_mm": row.width, "correction_mm": row.correction}
            table_row |= _ends("corrected_coverage", row.corrected_coverage)
            yield table_row | {"corrected_width_mm": row.corrected_width}


def _ends(name: str, mean: Mean | None) -> dict[str, float | None]:
    """Return a mean and the ends of its interval as three columns; None without a mean."""
    columns = {"value": name, "low": f"{name}_low", "high": f"{name}_high"}
    return {column: getattr(mean, attribute, None) for attribute, column in columns.items()}


def _memorization(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    for audited in evaluation.audits:
        audit = audited.audit
        nearest = audit.samples
        for index in np.argsort(nearest.closeness, kind="stable"):
            yield {
                "space": audit.space,
                "sample": audited.samples[index],
                "nearest_training_image": audited.training[int(nearest.index[index])],
                "distance": nearest.distance[index],
                "closeness": nearest.closeness[index],
                "flagged": int(audit.flagged[index]),
            }
