"""Plot of one metric of a sweep's jobs against another, in the colours of the page around it."""

import math
from collections.abc import Sequence
from typing import Any

from pti.sweep.record import JobResult

_MAX_LABELS = 16


def is_number(value: Any) -> bool:
    """Tell whether a value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def plot_trade_off(results: Sequence[JobResult], error: str) -> str | None:
    """Draw one labelled point per job over its ``val/kl`` as SVG; return None if no job has both metrics.

    The horizontal axis is logarithmic beyond one decade.

    Args:
        results: The jobs.
        error: Name of the metric on the vertical axis.
    """
    metrics = [(result.metric("val/kl"), result.metric(error), result.label) for result in results]
    points = sorted(point for point in metrics if is_number(point[0]) and is_number(point[1]))
    if not points:
        return None
    from pti.drawing.themed_svg import SERIES, drawing

    with drawing(5.4, 3.7, f"{error} against val/kl, one point per job") as canvas:
        axes = canvas.figure.subplots()
        x, y, _ = zip(*points, strict=True)
        axes.scatter(x, y, s=44, color=SERIES[0], zorder=3)
        if min(x) > 0 and max(x) / min(x) > 10:
            axes.set_xscale("log")
        if len(points) <= _MAX_LABELS:
            for index, (across, up, label) in enumerate(points):
                offset = (7, -13 if index % 2 else 6)  # neighbours alternate between above and below
                axes.annotate(label, (across, up), offset, textcoords="offset points", fontsize=9)
        axes.margins(x=0.18, y=0.15)
        axes.set_xlabel("latent regularity: val/kl (nats per image)")
        axes.set_ylabel(f"reconstruction: {error}")
    return canvas.svg
