"""One figure of a sweep's jobs against another, as a picture in the colours of the page around it."""

import io
import math
import re
from collections.abc import Sequence
from typing import Any

from pti.sweep.record import JobResult

_MOST_LABELS = 16

Point = tuple[str, float, float]


def is_number(value: Any) -> bool:
    """Whether it is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def plot_trade_off(results: Sequence[JobResult], error: str, regularity: str) -> str | None:
    """SVG with one labelled point a job; None when no job has both figures.

    Text takes the page's colour, lines and points its custom properties ``--line`` and ``--accent``.

    Args:
        results: the jobs.
        error: name of the figure upwards.
        regularity: name of the figure to the right; logarithmic when it spans more than a decade.
    """
    points = [
        (result.label, result.figure(regularity), result.figure(error))
        for result in results
        if is_number(result.figure(error)) and is_number(result.figure(regularity))
    ]
    return _scatter(points, error, regularity) if points else None


def _scatter(points: Sequence[Point], error: str, regularity: str) -> str:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # Colours of their own, which the page's colours then replace: one picture for light and dark.
    text, line, dot = "#010101", "#020202", "#030303"
    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "font.size": 10,
        "text.color": text,
        "axes.labelcolor": text,
    }
    style |= {"xtick.labelcolor": text, "ytick.labelcolor": text, "axes.edgecolor": line}
    style |= {"xtick.color": line, "ytick.color": line, "grid.color": line, "svg.hashsalt": "pti"}
    with rc_context(style):
        figure = Figure(figsize=(5.4, 3.7), layout="constrained")
        axes = figure.subplots()
        across, up = [point[1] for point in points], [point[2] for point in points]
        axes.scatter(across, up, s=44, color=dot, zorder=3)
        if min(across) > 0 and max(across) / min(across) > 10:
            axes.set_xscale("log")
        for (label, x, y), offset in zip(points, _label_offsets(points), strict=True):
            if len(points) <= _MOST_LABELS:
                axes.annotate(label, (x, y), (7, offset), textcoords="offset points", fontsize=9)
        axes.margins(x=0.18, y=0.15)
        axes.grid(alpha=0.35, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel(f"latent regularity: {regularity} (nats an image)")
        axes.set_ylabel(f"reconstruction: {error}")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    return svg.replace(text, "currentColor").replace(line, "var(--line)").replace(dot, "var(--accent)")


def _label_offsets(points: Sequence[Point]) -> list[int]:
    """Vertical offsets in points of the labels: neighbours in the picture take turns above and below."""
    order = sorted(range(len(points)), key=lambda index: points[index][1:])
    offsets = [0] * len(points)
    for place, index in enumerate(order):
        offsets[index] = 6 if place % 2 == 0 else -13
    return offsets
