"""A predicted height in words, with as much of an interval as is known to be valid."""

from collections.abc import Mapping, Sequence
from typing import Any

from pti.metrics.calibration import INTERVAL, ValidInterval


def height_text(answer: float, heights: Sequence[float], interval: ValidInterval | None) -> str:
    """``21.4 mm, 90 %: 20.1–22.9``; without a valid interval ``21.4 mm, samples 20.3–22.5``.

    Args:
        answer: the height as one number, mm.
        heights: of the samples, mm.
        interval: of the height, mm; None where nothing is known to hold what it promises.
    """
    words = f"{answer:.1f} mm"
    if interval is not None:
        return f"{words}, {100 * interval.level:.0f} %: {interval.low:.1f}–{interval.high:.1f}"
    return f"{words}, samples {min(heights):.1f}–{max(heights):.1f}" if len(heights) > 1 else words


def height_in_words(figures: Mapping[str, Any]) -> str:
    """The same of an image's figures, see `pti.metrics.translation`."""
    heights = [sample["bone_height_mm"] for sample in figures["samples"]]
    known = INTERVAL[0] in figures
    interval = ValidInterval(*(figures[key] for key in INTERVAL)) if known else None
    return height_text(figures["bone_height_mm"], heights, interval)
