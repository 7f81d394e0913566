"""Comparison of our default with the plain recipe: interleaved runs, medians, memory and FLOPs.

Runs of all sides alternate in one process (A B A B …) after a warm-up run of each, so that a busy moment
affects all of them. The clock starts and stops only when the device has finished its work.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from pti.benchmark.device import count_flops, quiet, synchronize

if TYPE_CHECKING:
    import torch

Run = Callable[[], object]
"""Does the work; a returned float is the run's own duration in seconds."""


@dataclass(frozen=True)
class Work:
    """The work of one side, built and ready to run.

    Attributes:
        run: All of the work, or with ``one_step`` a part of it: the first ``timed_steps`` of ``steps``.
        one_step: The same with a single step; None if ``run`` is all of the work.
        timed_steps: Steps of ``run``, 2 or more.
        steps: Steps of the whole work.
        note: Remark for the reader.
        command: Command that a run starts; None if the work is done in this process.
        error: Computes the mean absolute error of the result against the truth, raw units; None = unknown.
    """

    run: Run
    one_step: Run | None = None
    timed_steps: int = 1
    steps: int = 1
    note: str = ""
    command: Sequence[str] | None = None
    error: Callable[[], float] | None = None

    def measure(self, cost: Callable[[Run], float]) -> float:
        """Return the cost (seconds or FLOPs) of the whole work, from that of its part if need be.

        The whole never costs less than its part: where one step takes less time than the timings scatter, the
        part can seem to take less time than its first step.
        """
        part = cost(self.run)
        if self.one_step is None:
            return part
        first = cost(self.one_step)
        return max(part, first + (part - first) * (self.steps - 1) / (self.timed_steps - 1))


@dataclass(frozen=True)
class Side:
    """One way to do the work of a comparison.

    Attributes:
        name: Short name.
        build: Builds the work on the device.
        precision: Precision of its matrix products: ``float32``, ``tf32`` or ``bfloat16``.
    """

    name: str
    build: Callable[[], Work]
    precision: str = "float32"


@dataclass(frozen=True)
class Comparison:
    """Our ways to do some work, and the plain recipe's.

    Attributes:
        suite: Name of the suite.
        work: Description of the work.
        items: Number of images, pairs or commands in a run.
        ours: Our sides; the first is the default.
        plain: The plain recipe; None if there is nothing to compare with.
        item: ``image``, ``pair`` or ``command``.
        counts_flops: True if networks run, so that FLOPs are counted.
        has_truth: True if the sides can compute the error of their results.
    """

    suite: str
    work: str
    items: int
    ours: Sequence[Side]
    plain: Side | None
    item: str = "image"
    counts_flops: bool = False
    has_truth: bool = False

    @property
    def sides(self) -> list[Side]:
        """All sides, the plain recipe first."""
        return [*([] if self.plain is None else [self.plain]), *self.ours]


@dataclass(frozen=True)
class Peak:
    """Peak memory of a process that runs one side alone.

    Attributes:
        process_mb: Resident memory of the process, or of its largest child process, MB (``ru_maxrss``).
        gpu_mb: Memory of tensors on the GPU, MB (``torch.cuda.max_memory_allocated``); None without CUDA.
    """

    process_mb: float
    gpu_mb: float | None = None


@dataclass(frozen=True)
class Record:
    """What was measured of one side. Times are per item (image, pair or command), in ms.

    Attributes:
        suite: Name of the suite.
        work: Description of the work.
        side: Name of the side.
        is_plain: True for the plain recipe.
        item: ``image``, ``pair`` or ``command``.
        items: Items in a run.
        n: Timed runs.
        ms: Median time of an item.
        ms_quartiles: Lower and upper quartile.
        per_s: Items per second at the median.
        times_faster: Median over the runs of the plain recipe's time divided by this side's in the same
            round; None without a plain recipe.
        times_faster_quartiles: Its quartiles.
        peak_process_mb, peak_gpu_mb: See `Peak`.
        gflop: FLOPs of an item, 1e9, counted by torch; None where no network runs.
        matmul_share: FLOPs per second as a fraction of the device's measured rate of matrix products.
        error: Mean absolute error against the truth, raw units; None = unknown.
        note: Remark for the reader.
    """

    suite: str
    work: str
    side: str
    is_plain: bool
    item: str
    items: int
    n: int
    ms: float
    ms_quartiles: tuple[float, float]
    per_s: float
    times_faster: float | None
    times_faster_quartiles: tuple[float, float] | None
    peak_process_mb: float | None
    peak_gpu_mb: float | None
    gflop: float | None
    matmul_share: float | None
    error: float | None
    note: str


@dataclass
class Measurement:
    """The measurement of a comparison, as a list of tasks so that a progress bar can count them.

    Args:
        comparison: What to measure.
        repeats: Timed runs of each side.
        device: Where the work runs.
        peak: Measures a side's memory in a separate process; None = memory is not measured.
    """

    comparison: Comparison
    repeats: int
    device: torch.device
    peak: Callable[[Side, Work], Peak] | None = None
    _works: dict[str, Work] = field(default_factory=dict)
    _seconds: dict[str, list[float]] = field(default_factory=dict)
    _flops: dict[str, float] = field(default_factory=dict)
    _peaks: dict[str, Peak] = field(default_factory=dict)
    _errors: dict[str, float] = field(default_factory=dict)

    def tasks(self) -> Iterator[Callable[[], None]]:
        """List what is to be done, in order: warm-up, errors, FLOPs, interleaved runs, memory."""
        sides = self.comparison.sides
        yield from (partial(self._warm_up, side) for side in sides)
        if self.comparison.has_truth:
            yield from (partial(self._measure_error, side) for side in sides)
        if self.comparison.counts_flops:
            yield from (partial(self._count, side) for side in sides)
        for _ in range(self.repeats):
            yield from (partial(self._time, side) for side in sides)
        if self.peak is not None:
            yield from (partial(self._measure_memory, side) for side in sides)

    def _warm_up(self, side: Side) -> None:
        with quiet():
            work = self._works[side.name] = side.build()
            work.measure(self._duration)

    def _measure_error(self, side: Side) -> None:
        error = self._works[side.name].error
        if error is not None:
            with quiet():
                self._errors[side.name] = error()

    def _count(self, side: Side) -> None:
        with quiet():
            self._flops[side.name] = self._works[side.name].measure(count_flops)

    def _time(self, side: Side) -> None:
        with quiet():
            seconds = self._works[side.name].measure(self._duration)
        self._seconds.setdefault(side.name, []).append(seconds)

    def _measure_memory(self, side: Side) -> None:
        assert self.peak is not None
        self._peaks[side.name] = self.peak(side, self._works[side.name])

    def _duration(self, run: Run) -> float:
        synchronize(self.device)
        start = time.perf_counter()
        own = run()
        synchronize(self.device)
        return own if isinstance(own, float) else time.perf_counter() - start

    def records(self, matmul: Mapping[str, float]) -> list[Record]:
        """Summarize, once all tasks are done.

        Args:
            matmul: Precision -> measured rate of matrix products, FLOPs per second.
        """
        return [self._record(side, matmul) for side in self.comparison.sides]

    def _record(self, side: Side, matmul: Mapping[str, float]) -> Record:
        comparison, work = self.comparison, self._works[side.name]
        ms = [1000 * seconds / comparison.items for seconds in self._seconds[side.name]]
        median = statistics.median(ms)
        ratios = None
        if comparison.plain is not None:
            plain = self._seconds[comparison.plain.name]
            ratios = [one / other for one, other in zip(plain, self._seconds[side.name], strict=True)]
        flops = self._flops.get(side.name, 0) / comparison.items or None
        rate, peak = matmul.get(side.precision), self._peaks.get(side.name)
        return Record(
            comparison.suite,
            comparison.work,
            side.name,
            side is comparison.plain,
            comparison.item,
            comparison.items,
            self.repeats,
            ms=median,
            ms_quartiles=quartiles(ms),
            per_s=1000 / median,
            times_faster=None if ratios is None else statistics.median(ratios),
            times_faster_quartiles=None if ratios is None else quartiles(ratios),
            peak_process_mb=None if peak is None else peak.process_mb,
            peak_gpu_mb=None if peak is None else peak.gpu_mb,
            gflop=None if flops is None else flops / 1e9,
            matmul_share=None if flops is None or rate is None else flops / (median / 1000) / rate,
            error=self._errors.get(side.name),
            note=work.note,
        )


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """Return the lower and upper quartile; of a single value, twice the value."""
    if len(values) == 1:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def significant(value: float | None, digits: int = 3) -> str:
    """Format a number with a number of significant digits and thousands separators; empty for None."""
    if value is None:
        return ""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"
