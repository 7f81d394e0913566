"""Ways of doing the same work, and how fast each is."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Comparison:
    """Ways of doing the same work.

    Attributes:
        title: what is done.
        unit: of a speed, such as ``images/s``.
        amount: how many of them a run does.
        ways: name -> a run; the first is the plain way that others are compared with. A run that returns a
            float says for itself how many seconds count.
    """

    title: str
    unit: str
    amount: int
    ways: Mapping[str, Callable[[], object]]


def measure(comparison: Comparison, repeats: int) -> list[dict[str, Any]]:
    """Run every way ``repeats`` times, interleaved, after a run that isn't counted.

    Returns:
        For each way its median speed, the quartiles, and the median of the ratios to the plain way's
        neighbouring run.
    """
    speeds: dict[str, list[float]] = {name: [] for name in comparison.ways}
    for repeat in range(repeats + 1):
        for name, run in comparison.ways.items():
            start = time.perf_counter()
            counted = run()
            seconds = counted if isinstance(counted, float) else time.perf_counter() - start
            if repeat:
                speeds[name].append(comparison.amount / seconds)
    plain = speeds[next(iter(speeds))]
    return [
        {
            "what": comparison.title,
            "way": name,
            "unit": comparison.unit,
            "median": statistics.median(values),
            "quartiles": statistics.quantiles(values, n=4)[::2] if repeats > 1 else [values[0]] * 2,
            "times_plain": statistics.median(one / other for one, other in zip(values, plain, strict=True)),
        }
        for name, values in speeds.items()
    ]


def on_one_thread(work: Callable[[], object]) -> Callable[[], None]:
    """The same with one of torch's threads: what one process of several gets done."""
    import torch

    def run() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            work()
        finally:
            torch.set_num_threads(before)

    return run
