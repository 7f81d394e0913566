"""Comparison of the speed of different ways to do the same work."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import product
from typing import Any


@dataclass(frozen=True)
class Comparison:
    """Different ways to do the same work.

    Attributes:
        title: Description of the work.
        unit: Unit of the speed, such as ``images/s``.
        amount: Amount of work in a run, such as the number of images.
        ways: Name -> run; the first is the baseline of the others. A run that returns a float returns its own
            duration in seconds.
        one_thread: Limit torch to one thread, as in one of several processes.
    """

    title: str
    unit: str
    amount: int
    ways: Mapping[str, Callable[[], object]]
    one_thread: bool = False


def measure(comparison: Comparison, repeats: int) -> list[dict[str, Any]]:
    """Run every way ``repeats`` times, interleaved, after a warm-up run.

    Returns:
        For each way the median speed, the quartiles, and the median of its ratios to the baseline's
        neighbouring run.
    """
    speeds: dict[str, list[float]] = {name: [] for name in comparison.ways}
    with _one_thread() if comparison.one_thread else nullcontext():
        for repeat, (name, run) in product(range(repeats + 1), comparison.ways.items()):
            start = time.perf_counter()
            duration = run()
            seconds = duration if isinstance(duration, float) else time.perf_counter() - start
            if repeat:
                speeds[name].append(comparison.amount / seconds)
    baseline = speeds[next(iter(speeds))]
    return [
        {
            "what": comparison.title,
            "way": name,
            "unit": comparison.unit,
            "median": statistics.median(values),
            "quartiles": statistics.quantiles(values, n=4)[::2] if repeats > 1 else [values[0]] * 2,
            "times_plain": statistics.median(
                one / other for one, other in zip(values, baseline, strict=True)
            ),
        }
        for name, values in speeds.items()
    ]


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
