"""Format a predicted ridge height with its interval."""

from collections.abc import Sequence


def height_text(
    height: float, sample_heights: Sequence[float], interval: tuple[float, float, float] | None = None
) -> str:
    """Format as ``21.4 mm, 90 %: 20.1–22.9``, or ``21.4 mm, samples 20.3–22.5`` without an interval.

    Args:
        height: The predicted height, mm.
        sample_heights: The heights of the samples, mm.
        interval: Nominal level (0 to 1), lower and upper bound (mm) of a calibrated interval; None = unknown.
    """
    text = f"{height:.1f} mm"
    if interval is not None:
        level, low, high = interval
        return f"{text}, {100 * level:.0f} %: {low:.1f}–{high:.1f}"
    several = len(sample_heights) > 1
    return f"{text}, samples {min(sample_heights):.1f}–{max(sample_heights):.1f}" if several else text
