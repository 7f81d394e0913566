"""Plot of how many times faster than the plain recipe each of our sides is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pti.benchmark.comparison import Record, significant

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = ("#2a6fb0", "#d9622b", "#3f8f5b", "#8a5fb5", "#b0892a", "#5b6b7a")
_DPI = 130
_HEADING = 1.2
"""Height of a comparison's heading, as a multiple of a bar's."""


def plot_ratios(records: Sequence[Record], device: str, path: Path) -> None:
    """Write a PNG with a bar for each side that is compared with the plain recipe, on a logarithmic axis.

    Whiskers are quartiles. The plain recipe is the line at 1.

    Args:
        records: What was measured.
        device: Description of the device, for the title.
        path: File to write.
    """
    from matplotlib.figure import Figure

    compared = [record for record in records if record.times_faster is not None and not record.is_plain]
    suites = list(dict.fromkeys(record.suite for record in compared))
    works = list(dict.fromkeys((record.suite, record.work) for record in compared))
    rows = len(compared) + _HEADING * len(works)
    figure = Figure(figsize=(8.6, 1.2 + 0.3 * rows), layout="constrained")
    axes = figure.subplots()
    places, place = [], 0.0
    for suite, work in works:
        place += _HEADING
        heading = {"fontsize": 9, "fontweight": "bold", "va": "center"}
        axes.text(1.03, place - 0.05, f"{suite}: {work}", **heading)
        for record in compared:
            if (record.suite, record.work) == (suite, work):
                place += 1
                places.append(place)
                _draw_bar(axes, place, record, _COLORS[suites.index(suite) % len(_COLORS)])
    axes.set_yticks(places, [record.side.removeprefix("pti: ") for record in compared], fontsize=9)
    axes.set_ylim(place + 0.6, 0.2)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
    ratios = [ratio for record in compared for ratio in record.times_faster_quartiles or ()]
    axes.set_xlim(min(0.8, 0.8 * min(ratios)), 1.9 * max(2.0, *ratios))
    axes.axvline(1, color="#222222", linewidth=1)
    axes.set_xlabel("times faster than the plain recipe: median, whiskers are quartiles")
    axes.set_title(device, loc="left", fontsize=10)
    axes.grid(axis="x", which="major", alpha=0.3)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI)


def _draw_bar(axes: Axes, place: float, record: Record, color: str) -> None:
    """Draw the bar of a side from 1 to its ratio, with quartiles and the ratio as text."""
    assert record.times_faster is not None
    assert record.times_faster_quartiles is not None
    low, high = record.times_faster_quartiles
    axes.barh(place, record.times_faster - 1, left=1, height=0.7, color=color)
    axes.plot([low, high], [place, place], color="#222222", linewidth=1.6, solid_capstyle="butt")
    end, text = max(record.times_faster, high, 1), f"{significant(record.times_faster, 2)}×"
    axes.annotate(text, (end, place), (5, 0), textcoords="offset points", va="center", fontsize=9)
