"""Plot of one metric of a sweep's jobs against another, in the colours of the page around it."""

import math
from collections.abc import Sequence
from typing import Any

from pti.sweep.record import JobResult

_MAX_LABELS = 16

Point = tuple[str, float, float]


def is_number(value: Any) -> bool:
    """Tell whether a value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def plot_trade_off(results: Sequence[JobResult], error: str, regularity: str) -> str | None:
    """Draw one labelled point per job as SVG; return None if no job has both metrics.

    Args:
        results: The jobs.
        error: Name of the metric on the vertical axis.
        regularity: Name of the metric on the horizontal axis, which is logarithmic beyond one decade.
    """
    points: list[Point] = [
        (result.label, result.metric(regularity), result.metric(error))
        for result in results
        if is_number(result.metric(error)) and is_number(result.metric(regularity))
    ]
    if not points:
        return None
    from pti.drawing.themed_svg import SERIES, drawing

    with drawing(5.4, 3.7, f"{error} against {regularity}, one point per job") as canvas:
        axes = canvas.figure.subplots()
        labels, x, y = zip(*points, strict=True)
        axes.scatter(x, y, s=44, color=SERIES[0], zorder=3)
        if min(x) > 0 and max(x) / min(x) > 10:
            axes.set_xscale("log")
        if len(points) <= _MAX_LABELS:
            for label, place, offset in zip(labels, zip(x, y, strict=True), _offsets(points), strict=True):
                axes.annotate(label, place, (7, offset), textcoords="offset points", fontsize=9)
        axes.margins(x=0.18, y=0.15)
        axes.set_xlabel(f"latent regularity: {regularity} (nats per image)")
        axes.set_ylabel(f"reconstruction: {error}")
    return canvas.svg


def _offsets(points: Sequence[Point]) -> list[int]:
    """Return the labels' vertical offsets in points; neighbours alternate between above and below."""
    order = sorted(range(len(points)), key=lambda index: points[index][1:])
    offsets = [0] * len(points)
    for place, index in enumerate(order):
        offsets[index] = 6 if place % 2 == 0 else -13
    return offsets
