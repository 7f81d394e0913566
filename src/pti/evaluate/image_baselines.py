"""Baselines that make an image from the condition's intensities alone, pixel by pixel."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pti.common.progress import track
from pti.data import tif

ImageBaseline = Callable[[np.ndarray, str], np.ndarray]
"""Maps a raw condition (H, W) and its patient to a raw image (H, W)."""

BINS = 256
MAX_PAIRS = 200
MAX_PIXELS = 4096  # of a pair
_READERS = 4


def unchanged(condition: np.ndarray, patient: str) -> np.ndarray:
    """Return the condition itself."""
    return condition


@dataclass(frozen=True)
class Lookup:
    """A table from the condition's intensity to the target's, linear between its levels.

    Attributes:
        levels: (K,) raw intensities of the condition, rising.
        values: (K,) raw intensities of the target.
    """

    levels: np.ndarray
    values: np.ndarray

    def __call__(self, condition: np.ndarray) -> np.ndarray:
        """Map (H, W) raw to (H, W) float32 raw; constant beyond the outermost levels, background stays 0."""
        if self.levels.size == 0:
            return np.zeros(condition.shape, np.float32)
        image = np.interp(condition, self.levels, self.values).astype(np.float32)
        image[condition == 0] = 0
        return image


@dataclass(frozen=True)
class PatientLookup:
    """An :data:`ImageBaseline` with lookup tables.

    Attributes:
        tables: Patient -> table; for patients with a table fitted on the others.
        default: Table for all other patients.
    """

    tables: Mapping[str, Lookup]
    default: Lookup

    def __call__(self, condition: np.ndarray, patient: str) -> np.ndarray:
        """Apply the table of the patient."""
        return self.tables.get(patient, self.default)(condition)


def fit_lookup(condition: np.ndarray, target: np.ndarray, bins: int = BINS) -> Lookup:
    """Fit the target's mean given the condition's intensity: the table with the least squared error.

    The bins hold about equal numbers of pixels; equal intensities share a bin.

    Args:
        condition: (N,) raw intensities.
        target: (N,) raw intensities of the same pixels.
        bins: Largest number of bins.
    """
    if condition.size == 0:
        return Lookup(np.empty(0), np.empty(0))
    order = np.argsort(condition, kind="stable")
    inputs, outputs = condition[order].astype(np.float64), target[order].astype(np.float64)
    lowest = inputs[np.linspace(0, inputs.size, bins, endpoint=False).astype(int)]
    starts = np.unique(np.searchsorted(inputs, lowest))
    counts = np.diff(np.append(starts, inputs.size))
    return Lookup(np.add.reduceat(inputs, starts) / counts, np.add.reduceat(outputs, starts) / counts)


def lookup_of_training(pairs: Sequence[tuple[Path, Path]]) -> ImageBaseline:
    """Fit one table for all patients.

    Args:
        pairs: (condition, target) files; up to :data:`MAX_PAIRS`, evenly spaced, are read.

    Raises:
        TifError: A file can't be used.
    """
    chosen = [pairs[index] for index in _evenly_spaced(len(pairs), MAX_PAIRS)]
    return PatientLookup({}, fit_lookup(*np.concatenate(_read(chosen), axis=1)))


def lookup_of_others(pairs: Sequence[tuple[Path, Path]], patients: Sequence[str]) -> ImageBaseline:
    """Fit a table for each patient on the pairs of the others.

    Args:
        pairs: As in :func:`lookup_of_training`.
        patients: The patient of each pair; at least two different ones.

    Raises:
        TifError: A file can't be used.
    """
    chosen = _evenly_spaced(len(pairs), MAX_PAIRS)
    parts = _read([pairs[index] for index in chosen])
    owner = np.repeat(np.asarray(patients, str)[chosen], [part.shape[1] for part in parts])
    pixels = np.concatenate(parts, axis=1)
    order = np.argsort(pixels[0], kind="stable")  # sort once: the tables' own sorts are fast on sorted pixels
    pixels, owner = pixels[:, order], owner[order]
    tables = {str(patient): fit_lookup(*pixels[:, owner != patient]) for patient in np.unique(owner)}
    return PatientLookup(tables, fit_lookup(*pixels))


def tissue_pixels(condition: np.ndarray, target: np.ndarray, count: int = MAX_PIXELS) -> np.ndarray:
    """Return intensities at the same pixels, evenly spaced over the condition's tissue.

    Args:
        condition: (H, W) raw, background exactly 0.
        target: (H, W) raw.
        count: Largest number of pixels.

    Returns:
        (2, n), of the condition and of the target; n = 0 if their sizes differ.
    """
    if condition.shape != target.shape:
        return np.empty((2, 0), np.float32)
    tissue = np.flatnonzero(condition)
    pixels = tissue[_evenly_spaced(tissue.size, count)]
    return np.stack([image.ravel()[pixels] for image in (condition, target)])


def _read(pairs: Sequence[tuple[Path, Path]]) -> list[np.ndarray]:
    """Read `tissue_pixels` of each pair, (2, n)."""

    def read(pair: tuple[Path, Path]) -> np.ndarray:
        condition, target = (tif.read(file).pixels for file in pair)
        return tissue_pixels(condition, target)

    with ThreadPoolExecutor(_READERS) as readers:
        return list(track(readers.map(read, pairs), "Fitting the intensity look-up", total=len(pairs)))


def _evenly_spaced(length: int, count: int) -> np.ndarray:
    """Return at most ``count`` evenly spaced indices below ``length``."""
    return np.linspace(0, length, min(length, count), endpoint=False).astype(int)
