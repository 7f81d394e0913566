"""One method's figures on all slices of an evaluation."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pti.common.errors import DataError
from pti.common.processes import MIN_PARALLEL_JOBS, map_in_processes
from pti.common.progress import track
from pti.data import tif
from pti.evaluate.image_baselines import ImageBaseline
from pti.metrics.bone_agreement import LENGTHS, compare_images, find_bone
from pti.metrics.distribution import diversity

MEASURES = (*LENGTHS, "area")
_THREADS = 2


@dataclass(frozen=True)
class Case:
    """One slice to evaluate.

    Attributes:
        name: of the slice.
        patient: whose it is; where the name doesn't say, the slice stands for itself.
        target: file of the true image.
        condition: file of the image that the predictions were made from; None = not known.
        predictions: method -> files of its samples, one for a method that answers once.
    """

    name: str
    patient: str
    target: Path
    condition: Path | None = None
    predictions: Mapping[str, Sequence[Path]] = field(default_factory=dict)


@dataclass(frozen=True)
class Scores:
    """One method on N slices with K samples each.

    Attributes:
        method: its name.
        names: (N,) of the slices.
        patients: (N,) whose they are.
        pixel_mm: (N,) edge of a pixel, mm.
        figures: name -> (N, K); empty for a method that predicts sizes and no image.
        predicted: measure -> (N, K) mm (area: mm²).
        true: measure -> (N,) mm; NaN where the true bone has no such measure.
        diversity: (N,) mean absolute difference between two samples within the true bone, raw units; None for
            a single sample.
    """

    method: str
    names: Sequence[str]
    patients: Sequence[str]
    pixel_mm: np.ndarray
    figures: Mapping[str, np.ndarray]
    predicted: Mapping[str, np.ndarray]
    true: Mapping[str, np.ndarray]
    diversity: np.ndarray | None = None

    @property
    def samples(self) -> int:
        """K."""
        return self.predicted["height"].shape[1]

    def answer(self, measure: str) -> np.ndarray:
        """(N,) the prediction as one number: the median over the samples, mm."""
        return np.median(self.predicted[measure], axis=1)

    def error(self, measure: str) -> np.ndarray:
        """(N,) signed error of :meth:`answer`, mm; NaN where truth or prediction has no such measure."""
        return self.answer(measure) - self.true[measure]

    def per_slice(self) -> dict[str, np.ndarray]:
        """Every figure as (N,): means over the samples of what compares images, signed errors of lengths."""
        columns = {name: values.mean(axis=1) for name, values in self.figures.items()}
        for measure in MEASURES:
            unit = "mm2" if measure == "area" else "mm"
            columns[f"{measure}_error_{unit}"] = self.error(measure)
            columns[f"{measure}_abs_error_{unit}"] = np.abs(self.error(measure))
        if self.diversity is not None:
            columns["height_spread_mm"] = self.predicted["height"].std(axis=1, ddof=1)
            columns["diversity"] = self.diversity
        return columns


@dataclass(frozen=True)
class Evaluated:
    """What was measured of a set.

    Attributes:
        cases: the slices.
        methods: name -> its scores, in the order in which they are to be shown.
        conditions: measure -> (N,) mm of the condition's bone (with its tooth); None without conditions.
        data_range: raw units, for PSNR and SSIM.
        image_baselines: of the methods, those that make their image from the condition.
    """

    cases: Sequence[Case]
    methods: Mapping[str, Scores]
    conditions: Mapping[str, np.ndarray] | None
    data_range: float
    image_baselines: Mapping[str, ImageBaseline] = field(default_factory=dict)


@dataclass(frozen=True)
class _SliceResult:
    pixel_mm: float
    true: dict[str, float]
    condition: dict[str, float] | None
    methods: dict[str, list[tuple[dict[str, float], dict[str, float]]]]
    diversity: dict[str, float]


def evaluate_cases(
    cases: Sequence[Case],
    data_range: float,
    pixel_mm: float,
    image_baselines: Mapping[str, ImageBaseline] | None = None,
) -> Evaluated:
    """Read and measure everything.

    Args:
        cases: the slices; all with the same methods, and of a method the same number of samples.
        data_range: of the set, raw units.
        pixel_mm: edge of a pixel in mm, for files that don't say.
        image_baselines: methods that make their image from the condition, where there is one; None = none.

    Raises:
        DataError: a prediction's size differs from its truth's.
    """
    baselines = dict(image_baselines or {})
    look = _Comparison(data_range, pixel_mm, baselines)
    images = sum(map(len, cases[0].predictions.values())) + len(baselines)  # of a case: all have as many
    slices = list(map_in_processes(look, cases, "Measuring", min_parallel=-(-MIN_PARALLEL_JOBS // images)))
    names, patients = [case.name for case in cases], [case.patient for case in cases]
    sizes = np.array([found.pixel_mm for found in slices])
    true = _columns(found.true for found in slices)
    methods = {}
    for method in slices[0].methods:
        results = [found.methods[method] for found in slices]
        figures, predicted = (
            {
                key: np.array([[sample[part][key] for sample in samples] for samples in results])
                for key in results[0][0][part]
            }
            for part in (0, 1)
        )
        spread = [found.diversity[method] for found in slices] if method in slices[0].diversity else None
        diversity = None if spread is None else np.array(spread)
        methods[method] = Scores(method, names, patients, sizes, figures, predicted, true, diversity)
    rows = [found.condition for found in slices if found.condition is not None]
    conditions = _columns(rows) if len(rows) == len(cases) else None
    return Evaluated(cases, methods, conditions, data_range, baselines)


def mean_image(method: str) -> str:
    """The name under which the mean of a method's samples counts as a method, where there are several."""
    return f"{method} (mean image)"


def sizes_of(files: Sequence[Path], pixel_mm: float) -> dict[str, np.ndarray]:
    """The sizes of the bone in images on disk: measure -> (N,) mm; NaN where there is none.

    Args:
        files: of raw images.
        pixel_mm: edge of a pixel in mm, for files that don't say.
    """

    def look(file: Path) -> dict[str, float]:
        image = tif.read(file)
        return find_bone(image.pixels, image.pixel_mm or pixel_mm).lengths

    with ThreadPoolExecutor(_THREADS) as threads:
        return _columns(track(threads.map(look, files), "Measuring", total=len(files)))


@dataclass(frozen=True)
class _Comparison:
    data_range: float
    pixel_mm: float
    image_baselines: Mapping[str, ImageBaseline]

    def __call__(self, case: Case) -> _SliceResult:
        target = tif.read(case.target)
        edge = target.pixel_mm or self.pixel_mm
        true = find_bone(target.pixels, edge)
        methods, spread = {}, {}

        def compare(image: np.ndarray) -> tuple[dict[str, float], dict[str, float]]:
            return compare_images(true, image, self.data_range)

        for method, files in case.predictions.items():
            images = [_read_like(file, target.pixels.shape, case.target) for file in files]
            methods[method] = [compare(image) for image in images]
            if len(images) > 1:
                methods[mean_image(method)] = [compare(np.mean(images, axis=0))]
                spread[method] = diversity(np.stack(images), true.mask)
        condition = None
        if case.condition is not None:
            image = _read_like(case.condition, target.pixels.shape, case.target)
            condition = find_bone(image, edge).lengths
            for name, make in self.image_baselines.items():
                methods[name] = [compare(make(image, case.patient))]
        return _SliceResult(edge, true.lengths, condition, methods, spread)


def _read_like(path: Path, shape: tuple[int, ...], other: Path) -> np.ndarray:
    pixels = tif.read(path).pixels
    if pixels.shape != shape:
        raise DataError(
            f"{path}: found {pixels.shape[0]} × {pixels.shape[1]} pixels, expected {shape[0]} × {shape[1]} "
            f"as in {other}. Write predictions at their target's own size."
        )
    return pixels


def _columns(rows: Iterable[Mapping[str, float]]) -> dict[str, np.ndarray]:
    listed = list(rows)
    return {key: np.array([row[key] for row in listed]) for key in listed[0]} if listed else {}
