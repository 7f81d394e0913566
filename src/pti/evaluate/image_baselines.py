"""Images made from the condition's intensities alone, pixel by pixel: what a translation has to beat."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pti.common.progress import track
from pti.data import tif

ImageBaseline = Callable[[np.ndarray, str], np.ndarray]
"""A raw condition (H, W) and whose it is -> a raw image (H, W)."""

BINS = 256
MOST_PAIRS = 200
MOST_PIXELS = 4096  # of a pair
_READERS = 4


def unchanged(condition: np.ndarray, patient: str) -> np.ndarray:
    """The condition as it is."""
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
        """(H, W) raw -> (H, W) float32 raw; constant beyond the outermost levels, background stays 0."""
        if self.levels.size == 0:
            return np.zeros(condition.shape, np.float32)
        found = np.interp(condition, self.levels, self.values).astype(np.float32)
        found[condition == 0] = 0
        return found


@dataclass(frozen=True)
class PatientLookup:
    """An :data:`ImageBaseline` by tables.

    Attributes:
        tables: of the patients that have one of their own.
        rest: for all others.
    """

    tables: Mapping[str, Lookup]
    rest: Lookup

    def __call__(self, condition: np.ndarray, patient: str) -> np.ndarray:
        """As its patient's table has it."""
        return self.tables.get(patient, self.rest)(condition)


def fit_lookup(condition: np.ndarray, target: np.ndarray, bins: int = BINS) -> Lookup:
    """The target's mean given the condition's intensity, of all tables the one with the least squared error.

    Bins hold about as many pixels each, and equal intensities stand in one bin.

    Args:
        condition: (N,) raw intensities.
        target: (N,) raw intensities of the same pixels.
        bins: the most.
    """
    if condition.size == 0:
        return Lookup(np.empty(0), np.empty(0))
    order = np.argsort(condition, kind="stable")
    known, wanted = condition[order].astype(np.float64), target[order].astype(np.float64)
    lowest = known[np.linspace(0, known.size, bins, endpoint=False).astype(int)]
    starts = np.unique(np.searchsorted(known, lowest))
    counts = np.diff(np.append(starts, known.size))
    return Lookup(np.add.reduceat(known, starts) / counts, np.add.reduceat(wanted, starts) / counts)


def lookup_of_training(pairs: Sequence[tuple[Path, Path]]) -> ImageBaseline:
    """One table for everybody.

    Args:
        pairs: (condition, target) files; :data:`MOST_PAIRS` of them, evenly spaced, are read.

    Raises:
        TifError: a file can't be used.
    """
    chosen = [pairs[index] for index in _spaced(len(pairs), MOST_PAIRS)]
    return PatientLookup({}, fit_lookup(*np.concatenate(_read(chosen), axis=1)))


def lookup_of_others(pairs: Sequence[tuple[Path, Path]], patients: Sequence[str]) -> ImageBaseline:
    """A table for each patient, fitted on the pairs of the other ones.

    Args:
        pairs: as in :func:`lookup_of_training`.
        patients: whose they are; at least two different ones.

    Raises:
        TifError: a file can't be used.
    """
    chosen = _spaced(len(pairs), MOST_PAIRS)
    found = _read([pairs[index] for index in chosen])
    owner = np.repeat(np.asarray(patients, str)[chosen], [part.shape[1] for part in found])
    pixels = np.concatenate(found, axis=1)
    order = np.argsort(pixels[0], kind="stable")  # once: what is in order is sorted fast
    pixels, owner = pixels[:, order], owner[order]
    tables = {str(patient): fit_lookup(*pixels[:, owner != patient]) for patient in np.unique(owner)}
    return PatientLookup(tables, fit_lookup(*pixels))


def tissue_pixels(condition: np.ndarray, target: np.ndarray, most: int = MOST_PIXELS) -> np.ndarray:
    """Intensities at the same places, evenly spaced over the condition's tissue.

    Args:
        condition: (H, W) raw, background exactly 0.
        target: (H, W) raw.
        most: how many.

    Returns:
        (2, n) of the condition and of the target; n = 0 where their sizes differ.
    """
    if condition.shape != target.shape:
        return np.empty((2, 0), np.float32)
    tissue = np.flatnonzero(condition)
    places = tissue[_spaced(tissue.size, most)]
    return np.stack([image.ravel()[places] for image in (condition, target)])


def _read(pairs: Sequence[tuple[Path, Path]]) -> list[np.ndarray]:
    """(2, n) of each pair, see `tissue_pixels`."""

    def look(pair: tuple[Path, Path]) -> np.ndarray:
        condition, target = (tif.read(file).pixels for file in pair)
        return tissue_pixels(condition, target)

    with ThreadPoolExecutor(_READERS) as readers:
        return list(track(readers.map(look, pairs), "Fitting the intensity look-up", total=len(pairs)))


def _spaced(count: int, most: int) -> np.ndarray:
    """At most so many of ``count`` indices, evenly spaced; always the same ones."""
    return np.linspace(0, count, min(count, most), endpoint=False).astype(int)
