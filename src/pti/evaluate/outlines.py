"""Outlines of a method's samples and of the true bone, for the calibrated band."""

from collections.abc import Sequence
from dataclasses import dataclass

from pti.common.processes import MIN_PARALLEL_JOBS, map_in_processes
from pti.data import tif
from pti.evaluate.scores import Case
from pti.metrics.outline_band import MeasuredOutline, measure_outline


def measure_outlines(cases: Sequence[Case], method: str, pixel_mm: float) -> list[MeasuredOutline] | None:
    """Measure the outlines of a method on each slice.

    Args:
        cases: The slices.
        method: Name of the method.
        pixel_mm: Edge of a pixel in mm, for files without a resolution.

    Returns:
        None without images of the method, and without conditions, on which the new outline depends.
    """
    if any(method not in case.predictions or case.condition is None for case in cases):
        return None
    min_parallel = -(-MIN_PARALLEL_JOBS // len(cases[0].predictions[method]))
    work = _MeasureOutline(method, pixel_mm)
    return list(map_in_processes(work, cases, "Measuring outlines", min_parallel=min_parallel))


@dataclass(frozen=True)
class _MeasureOutline:
    method: str
    pixel_mm: float

    def __call__(self, case: Case) -> MeasuredOutline:
        assert case.condition is not None
        true = tif.read(case.target)
        condition, *samples = (
            tif.read(file).pixels for file in (case.condition, *case.predictions[self.method])
        )
        return measure_outline(condition, samples, true.pixels, true.pixel_mm or self.pixel_mm)
