"""Measurements of every method on every slice of an evaluation."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pti.common.errors import DataError
from pti.common.processes import MIN_PARALLEL_JOBS, map_in_processes
from pti.data import resize, tif
from pti.evaluate.image_baselines import ImageBaseline
from pti.metrics.bone_agreement import LENGTHS, compare_images, find_bone
from pti.metrics.changed_region import RegionReference
from pti.metrics.distribution import diversity

MEASURES = (*LENGTHS, "area")


@dataclass(frozen=True)
class Case:
    """One slice to evaluate.

    Attributes:
        name: Name of the slice.
        patient: Its patient; the slice's own name if the patient is unknown.
        target: File of the true image.
        condition: File of the image that the predictions were made from; None = unknown.
        predictions: Method -> files of its samples; one file for a method with one prediction per slice.
        sizes: Method that predicts sizes without images -> measure -> (K,) quantiles i / (K + 1), mm.
        evenly_spread: Methods whose samples are spread evenly over a predicted distribution.
    """

    name: str
    patient: str
    target: Path
    condition: Path | None = None
    predictions: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    sizes: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    evenly_spread: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Scores:
    """Measurements of one method on N slices with K samples each.

    Attributes:
        method: Name of the method.
        names: (N,) names of the slices.
        patients: (N,) patient of each slice.
        pixel_mm: (N,) edge of a pixel, mm.
        metrics: Name -> (N, K); empty for a method that predicts sizes without images.
        predicted: Measure -> (N, K) mm (area: mm²).
        true: Measure -> (N,) mm; NaN if the true bone doesn't have the measure.
        diversity: (N,) mean absolute difference between two samples within the true bone, raw units; None for
            a single sample.
        quantiles: The K values of each measure are quantiles of its distribution instead of samples.
        independent: The samples of a slice are independent of each other, and not spread evenly.
    """

    method: str
    names: Sequence[str]
    patients: Sequence[str]
    pixel_mm: np.ndarray
    metrics: Mapping[str, np.ndarray]
    predicted: Mapping[str, np.ndarray]
    true: Mapping[str, np.ndarray]
    diversity: np.ndarray | None = None
    quantiles: bool = False
    independent: bool = True

    @property
    def samples(self) -> int:
        """The number of samples, K."""
        return self.predicted["height"].shape[1]

    @property
    def evenly_spread(self) -> bool:
        """True if the K values are samples that are spread evenly over a distribution."""
        return not (self.independent or self.quantiles)

    def point_prediction(self, measure: str) -> np.ndarray:
        """Return the median over the samples, (N,) mm."""
        return np.median(self.predicted[measure], axis=1)

    def error(self, measure: str) -> np.ndarray:
        """Return the signed error of :meth:`point_prediction`, (N,) mm; NaN if a bone lacks the measure."""
        return self.point_prediction(measure) - self.true[measure]

    def per_slice(self) -> dict[str, np.ndarray]:
        """Return all values as (N,): means of image metrics over the samples, errors of sizes, diversity."""
        columns = {name: values.mean(axis=1) for name, values in self.metrics.items()}
        for measure in MEASURES:
            unit = "mm2" if measure == "area" else "mm"
            columns[f"{measure}_error_{unit}"] = self.error(measure)
            columns[f"{measure}_abs_error_{unit}"] = np.abs(self.error(measure))
        if self.diversity is not None:
            columns["height_spread_mm"] = self.predicted["height"].std(axis=1, ddof=1)
            columns["diversity"] = self.diversity
        return columns


@dataclass(frozen=True)
class Measurements:
    """Measurements of all methods on a set of slices.

    Attributes:
        cases: The slices.
        methods: Name -> scores, in the order of the report.
        conditions: Measure -> (N,) mm of the condition's bone (with its tooth); None without conditions.
        data_range: Data range for PSNR and SSIM, raw units.
        image_baselines: The methods that make their image from the condition.
        region_size: Edge of the square to which images are resized for the changed and unchanged regions,
            pixels; None = their own size.
        changed_share: (N,) changed fraction of the true tissue; None without conditions.
    """

    cases: Sequence[Case]
    methods: Mapping[str, Scores]
    conditions: Mapping[str, np.ndarray] | None
    data_range: float
    image_baselines: Mapping[str, ImageBaseline] = field(default_factory=dict)
    region_size: int | None = None
    changed_share: np.ndarray | None = None

    @property
    def patients(self) -> list[str]:
        """(N,) patient of each slice."""
        return [case.patient for case in self.cases]

    def regions(self, case: Case) -> RegionReference:
        """Return the regions of a slice with a condition."""
        assert case.condition is not None
        condition, target = (
            at_size(tif.read(file).pixels, self.region_size) for file in (case.condition, case.target)
        )
        return RegionReference(condition, target, self.data_range)


@dataclass(frozen=True)
class _SliceResult:
    pixel_mm: float
    true: dict[str, float]
    condition: dict[str, float] | None
    methods: dict[str, list[tuple[dict[str, float], dict[str, float]]]]
    diversity: dict[str, float]
    changed_share: float | None


def measure_cases(
    cases: Sequence[Case],
    data_range: float,
    pixel_mm: float,
    image_baselines: Mapping[str, ImageBaseline] | None = None,
    region_size: int | None = None,
) -> Measurements:
    """Read and measure all images.

    Args:
        cases: The slices; all with the same methods, each method with the same number of samples in all.
        data_range: Data range of the set, raw units.
        pixel_mm: Edge of a pixel in mm, for files without a resolution.
        image_baselines: Methods that make their image from the condition; None = none.
        region_size: As in `Measurements`.

    Raises:
        DataError: A prediction's size differs from its target's.
    """
    baselines = dict(image_baselines or {})
    measure = _MeasureCase(data_range, pixel_mm, baselines, region_size)
    images = sum(map(len, cases[0].predictions.values())) + len(baselines)  # of each case
    min_parallel = -(-MIN_PARALLEL_JOBS // max(1, images))
    slices = list(map_in_processes(measure, cases, "Measuring", min_parallel=min_parallel))
    pixels, true = (
        np.array([result.pixel_mm for result in slices]),
        _columns(result.true for result in slices),
    )
    names, patients = [case.name for case in cases], [case.patient for case in cases]
    methods = {}
    for method in cases[0].sizes:
        columns = _stacked(case.sizes[method] for case in cases)
        lacking = dict.fromkeys(MEASURES, np.full_like(columns["height"], np.nan))
        methods[method] = Scores(
            method, names, patients, pixels, {}, lacking | columns, true, quantiles=True, independent=False
        )
    for method in slices[0].methods:
        metrics, predicted = (
            {
                key: np.array([[sample[part][key] for sample in result.methods[method]] for result in slices])
                for key in slices[0].methods[method][0][part]
            }
            for part in (0, 1)
        )
        differences = [result.diversity[method] for result in slices if method in result.diversity]
        spread = np.array(differences) if differences else None
        independent = method not in cases[0].evenly_spread
        methods[method] = Scores(
            method, names, patients, pixels, metrics, predicted, true, spread, independent=independent
        )
    rows = [result.condition for result in slices if result.condition is not None]
    if len(rows) < len(cases):
        return Measurements(cases, methods, None, data_range, baselines, region_size)
    shares = np.array([result.changed_share for result in slices])
    return Measurements(cases, methods, _columns(rows), data_range, baselines, region_size, shares)


def at_size(pixels: np.ndarray, size: int | None) -> np.ndarray:
    """Resize a raw image (H, W) to a square, as the networks see it; None = leave it as it is."""
    return pixels if size is None else resize.pad_and_resize(pixels, size)


def mean_image(method: str) -> str:
    """Return the name of the method whose prediction is the mean of another method's samples."""
    return f"{method} (mean image)"


@dataclass(frozen=True)
class _MeasureCase:
    data_range: float
    pixel_mm: float
    image_baselines: Mapping[str, ImageBaseline]
    region_size: int | None

    def __call__(self, case: Case) -> _SliceResult:
        target = tif.read(case.target)
        pixel_mm = target.pixel_mm or self.pixel_mm
        true = find_bone(target.pixels, pixel_mm)
        methods, differences, condition, regions = {}, {}, None, None
        for method, files in case.predictions.items():
            images = [_read_like(file, target.pixels.shape, case.target) for file in files]
            methods[method] = images
            if len(images) > 1:
                methods[mean_image(method)] = [np.mean(images, axis=0)]
                differences[method] = diversity(np.stack(images), true.mask)
        if case.condition is not None:
            image = _read_like(case.condition, target.pixels.shape, case.target)
            condition = find_bone(image, pixel_mm).lengths
            for name, make_image in self.image_baselines.items():
                methods[name] = [make_image(image, case.patient)]
            small, true_small = (at_size(pixels, self.region_size) for pixels in (image, target.pixels))
            regions = RegionReference(small, true_small, self.data_range)
        compared = {
            method: [compare_images(true, image, self.data_range) for image in images]
            for method, images in methods.items()
        }
        if regions is None:
            return _SliceResult(pixel_mm, true.lengths, None, compared, differences, None)
        for method, images in methods.items():
            by_region = regions.compare(np.stack([at_size(image, self.region_size) for image in images]))
            for index, (metrics, _) in enumerate(compared[method]):
                metrics |= {name: float(values[index]) for name, values in by_region.items()}
        share = regions.changed_share
        return _SliceResult(pixel_mm, true.lengths, condition, compared, differences, share)


def _read_like(path: Path, shape: tuple[int, ...], other: Path) -> np.ndarray:
    pixels = tif.read(path).pixels
    if pixels.shape != shape:
        raise DataError(
            f"{path}: found {pixels.shape[0]} × {pixels.shape[1]} pixels, expected {shape[0]} × {shape[1]} "
            f"as in {other}. Write predictions at the size of their targets."
        )
    return pixels


def _stacked(rows: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    rows = list(rows)
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def _columns(rows: Iterable[Mapping[str, float]]) -> dict[str, np.ndarray]:
    rows = list(rows)
    return {key: np.array([row[key] for row in rows]) for key in rows[0]} if rows else {}
