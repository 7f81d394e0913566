"""The results that ``python -m pti.evaluate`` wrote to a folder, as typed tables."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pti.common.errors import DataError
from pti.common.tables import read_columns
from pti.metrics.bootstrap import Mean

Columns = dict[str, np.ndarray]
"""Column -> (N,) numbers (NaN = missing) or text."""


@dataclass(frozen=True)
class PredictedLengths:
    """One length of the bone, as a method predicted it for N slices.

    Attributes:
        names: (N,) names of the slices.
        patients: (N,) their patients.
        true: (N,) mm; NaN where the true bone has no such length.
        samples: (N, K) mm: K samples, or quantiles of a model that predicts sizes alone.
    """

    names: np.ndarray
    patients: np.ndarray
    true: np.ndarray
    samples: np.ndarray


@dataclass(frozen=True)
class EvaluationResults:
    """The tables of an evaluation; `read_evaluation` opens one.

    Attributes:
        folder: The output folder of ``python -m pti.evaluate``.
        summary: Content of ``summary.json``: arguments, checkpoint, versions, ``figures``, warnings.
        means: Method -> metric -> mean over the slices with its 95 % interval over patients; from
            ``summary.csv``.
    """

    folder: Path
    summary: dict[str, Any]
    means: dict[str, dict[str, Mean]]

    @property
    def main(self) -> str:
        """The method that was evaluated; the others are compared with it."""
        return next(iter(self.means))

    @property
    def methods(self) -> list[str]:
        """All methods: the evaluated one, other checkpoints, baselines."""
        return list(self.means)

    @cached_property
    def intervals(self) -> Columns:
        """Nominal and actual coverage of the main method's intervals; empty for a single sample."""
        return self._table("intervals.csv", optional=True)

    @cached_property
    def differences(self) -> Columns:
        """The main method minus each other one, with a verdict: ``better``, ``worse`` or ``undecided``."""
        return self._table("differences.csv")

    def slices(self, method: str | None = None) -> Columns:
        """Return all values of each slice, worst bone height first; None = the main method."""
        return self._rows(self._per_slice, method)

    def lengths(self, measure: str = "height", method: str | None = None) -> PredictedLengths:
        """Return one length as it is, and as a method predicted it.

        Args:
            measure: One of `pti.metrics.bone_agreement.LENGTHS`.
            method: None = the main method.

        Raises:
            DataError: The evaluation does not contain the measure or the method.
        """
        rows = self._rows(self._dimensions, method)
        if f"{measure}_true_mm" not in rows:
            known = [name.removesuffix("_true_mm") for name in rows if name.endswith("_true_mm")]
            raise DataError(
                f"{self.folder}: found no measure {measure!r}, expected one of {', '.join(known)}."
            )
        samples = int(rows["sample"].max()) + 1
        by_slice = {name: column.reshape(-1, samples) for name, column in rows.items()}
        names, patients, true = (by_slice[name][:, 0] for name in ("name", "patient", f"{measure}_true_mm"))
        return PredictedLengths(names, patients, true, by_slice[f"{measure}_predicted_mm"])

    @cached_property
    def _per_slice(self) -> Columns:
        return self._table("per_slice.csv")

    @cached_property
    def _dimensions(self) -> Columns:
        return self._table("dimensions.csv")

    def _rows(self, table: Columns, method: str | None) -> Columns:
        """Return the rows of one method."""
        own = table["method"] == (method or self.main)
        if not own.any():
            raise DataError(
                f"{self.folder}: found no method {method!r}, expected one of {', '.join(self.methods)}."
            )
        return {name: column[own] for name, column in table.items() if name != "method"}

    def _table(self, name: str, optional: bool = False) -> Columns:
        path = self.folder / name
        return {} if optional and not path.exists() else read_columns(path)


def read_evaluation(folder: str | Path) -> EvaluationResults:
    """Open the output folder of ``python -m pti.evaluate``.

    Raises:
        DataError: The folder isn't one, or its evaluation hasn't finished.
    """
    folder = Path(folder).absolute()
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        if summary["command"] != "evaluate":
            raise ValueError(f"{summary['command']} wrote it")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder}: expected the output folder of a finished `python -m pti.evaluate` ({error})."
        ) from None
    rows = read_columns(folder / "summary.csv")
    means: dict[str, dict[str, Mean]] = {}
    for method, metric, value, low, high, count, patients in zip(*rows.values(), strict=True):
        mean = Mean(float(value), float(low), float(high), int(count), int(patients))
        means.setdefault(str(method), {})[str(metric)] = mean
    return EvaluationResults(folder, summary, means)
