"""``calibration.json``: read what an evaluation fitted on validation patients, for intervals and bands."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pti.common.errors import DataError
from pti.metrics.calibration import LEVELS, patients_needed
from pti.runs.manifest import EVENLY_SPREAD

MEASURES = ("height", "width_quarter", "width_half", "width_three_quarters")
"""The lengths that get intervals."""

Corrections = Mapping[str, Mapping[float, float]]
"""Measure -> level -> correction, mm; infinite if there were too few patients."""

BAND_FACTORS = "outline_band_factors"
"""Key of the factors of the outline's band in the file; files of earlier versions lack it."""


@dataclass(frozen=True)
class Calibration:
    """Content of a calibration file.

    Attributes:
        corrections: Corrections of the intervals, mm.
        origin: Text that names the patients of the fit.
        band_factors: Level -> factor of the band around the bone's outline, see `pti.metrics.outline_band`;
            infinite if there were too few patients, empty if the file has no factors.
        evenly_spread: The corrections belong to samples that are spread evenly, see
            `pti.metrics.calibration.central_interval`.
    """

    corrections: Corrections
    origin: str
    band_factors: Mapping[float, float] = field(default_factory=dict)
    evenly_spread: bool = False

    @property
    def height(self) -> Mapping[float, float]:
        """Corrections of the height, level -> mm."""
        return self.corrections["height"]

    def notes(self) -> list[str]:
        """Explain which intervals and bands are missing."""
        return missing_calibration(self.corrections, self.origin) + self._missing_bands()

    def notes_on_images(self) -> list[str]:
        """Explain which intervals of the height and which bands are missing."""
        notes = missing_calibration({"height": self.height}, self.origin)
        if not self.band_factors:
            notes.append(
                "the pictures show no band of the outline: the calibration has none, because an earlier "
                "version wrote it. Write it again with pti evaluate"
            )
        return notes + self._missing_bands()

    def _missing_bands(self) -> list[str]:
        return [
            f"there is no {level * 100:.0f} % band of the outline: it needs at least "
            f"{patients_needed(level)} validation patients whose bone has a new outline; "
            f"{_fitted_on(self.origin)}"
            for level, factor in self.band_factors.items()
            if math.isinf(factor)
        ]


def missing_calibration(corrections: Corrections, origin: str) -> list[str]:
    """Explain which intervals have no finite correction, a note for each level; empty if all have one.

    Args:
        corrections: Corrections in mm.
        origin: Text that names the patients of the fit.
    """
    notes = []
    for level in LEVELS:
        lacking = [name for name, levels in corrections.items() if math.isinf(levels.get(level, 0.0))]
        if lacking:
            of = "" if len(lacking) == len(corrections) else f" of {', '.join(lacking)}"
            notes.append(
                f"there is no corrected {level * 100:.0f} % interval{of}: it needs at least "
                f"{patients_needed(level)} validation patients, because a correction fitted on P patients "
                f"guarantees a coverage of at most P / (P + 1); {_fitted_on(origin)}"
            )
    return notes


def _fitted_on(origin: str) -> str:
    return f"it was fitted on the {origin}"


def read_calibration(path: Path, samples: int, checkpoint: str | None = None) -> Calibration:
    """Read a calibration.

    Args:
        path: A ``calibration.json``.
        samples: Samples per slice now; a calibration is only valid for the number it was fitted on.
        checkpoint: SHA-256 of the checkpoint that made the samples; None = unknown.

    Raises:
        DataError: The file isn't a calibration, or was fitted on another number of samples or another model.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        corrections = {measure: _by_level(content["corrections_mm"][measure]) for measure in MEASURES}
        factors = _by_level(content.get(BAND_FACTORS, {}))
        evenly_spread = content.get(EVENLY_SPREAD, False)
        fitted_samples, model = content["samples"], content["checkpoint"]
        origin = f"{content['found_on']} ({content['patients']} patients)"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path}: expected a calibration.json written by pti evaluate.") from None
    if fitted_samples != samples:
        raise DataError(
            f"{path}: fitted on {fitted_samples} samples per slice, but there are {samples} now. Use "
            f"{fitted_samples} samples, or write a new calibration.json with pti evaluate."
        )
    if checkpoint is not None and checkpoint != model:
        raise DataError(
            f"{path}: fitted with the checkpoint of SHA-256 {model[:12]}… ({content['method']}), but this "
            f"one has {checkpoint[:12]}…. Write a calibration.json for it with pti evaluate."
        )
    return Calibration(corrections, origin, factors, evenly_spread)


def _by_level(values: Mapping[str, float | None]) -> dict[float, float]:
    """Return level -> value; a value of null is infinite."""
    return {float(level): math.inf if value is None else float(value) for level, value in values.items()}
